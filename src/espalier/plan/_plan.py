"""The plan: parameter name → (set, keep), with what it costs and saves."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from espalier._types import Keep, Weights
from espalier.errors import BudgetError, EspalierError, ShapeError, UnknownNameError, nearest
from espalier.sets import Set


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What one parameter may keep.

    Attributes:
        name: as in ``model.named_parameters()``.
        shape: the tensor's.
        set: the shape of sparsity.
        keep: how many of the set's units may stay.
        layer_kind: kind of the layer it belongs to: ``"conv"``, ``"linear"``, …
        macs: dense multiply-accumulates for one sample; ``None`` when not measured.
    """

    name: str
    shape: tuple[int, ...]
    set: Set
    keep: Keep
    layer_kind: str = ""
    macs: int | None = None

    @property
    def units(self) -> Keep:
        """The largest keep: all the units of the tensor."""
        return self.set.units(self.shape)

    def opened(self, slack: float) -> Keep:
        """The keep at a slack: ``keep + round((units − keep) · slack)``, elementwise for pairs."""
        return _opened(self.keep, self.units, slack)


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A parameter the plan leaves dense, and why."""

    name: str
    shape: tuple[int, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which set and keep each parameter of a model has.

    Attributes:
        entries: by parameter name, in the model's order.
        shared: one budget over several tensors instead of one keep each; ``None`` when none.
        skipped: the parameters left dense.
    """

    entries: Mapping[str, Entry]
    shared: None = None
    skipped: tuple[Skipped, ...] = field(default=())

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters to prune, in the model's order."""
        return tuple(self.entries)

    @property
    def density(self) -> float:
        """Weights that may stay, as a fraction of the weights of the planned tensors."""
        entries = self.entries.values()
        kept = sum(entry.set.nonzeros(entry.shape, entry.keep) for entry in entries)
        return kept / sum(math.prod(entry.shape) for entry in entries)

    def check(self, model: nn.Module) -> None:
        """Raise unless every entry names a parameter of ``model`` with the planned shape."""
        parameters = dict(model.named_parameters())
        for name in self.entries:
            self._weight(parameters, name)

    def support(
        self, weights: Weights, metrics: Weights | None = None, slack: float = 0.0
    ) -> dict[str, Tensor]:
        """Boolean masks by name: where the nearest point of each set may be nonzero.

        Args:
            weights: every parameter in :attr:`names`; others are ignored.
            metrics: diagonal of H by name; a name that is missing has H = I.
            slack: how far the constraint is open, 0 (the plan's keep) to 1 (dense).
        """
        _check_slack(slack)
        masks = {}
        for name, entry in self.entries.items():
            w, h = self._weight(weights, name), (metrics or {}).get(name)
            with _named(name):
                masks[name] = entry.set.support(w, entry.opened(slack), h)
        return masks

    def project(
        self, weights: Weights, metrics: Weights | None = None, slack: float = 0.0
    ) -> dict[str, Tensor]:
        """Nearest point by name: each tensor unchanged on its support, zero elsewhere; detached."""
        masks = self.support(weights, metrics, slack)
        return {name: torch.where(mask, weights[name].detach(), 0) for name, mask in masks.items()}

    def contains(self, weights: Weights) -> bool:
        """Whether every tensor is in its set, at the plan's own keep."""
        return all(
            entry.set.contains(self._weight(weights, name), entry.keep)
            for name, entry in self.entries.items()
        )

    def _weight(self, weights: Weights, name: str) -> Tensor:
        if name not in weights:
            raise UnknownNameError(f"no weights given for {name!r}; {nearest(name, weights)}")
        w, shape = weights[name], self.entries[name].shape
        if tuple(w.shape) != shape:
            raise ShapeError(f"{name}: shape {tuple(w.shape)} but the plan was made for {shape}")
        return w


def _opened(keep: Keep, units: Keep, slack: float) -> Keep:
    if isinstance(keep, tuple) and isinstance(units, tuple):
        return (
            keep[0] + round((units[0] - keep[0]) * slack),
            keep[1] + round((units[1] - keep[1]) * slack),
        )
    assert isinstance(keep, int)
    assert isinstance(units, int)
    return keep + round((units - keep) * slack)


def _check_slack(slack: float) -> None:
    if not 0.0 <= slack <= 1.0:
        raise BudgetError(f"slack={slack}; give 0 (the plan's keep) to 1 (dense)")


class _named:  # noqa: N801 - reads as a statement
    """Put a parameter's name in front of what is raised inside."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, EspalierError):
            raise type(error)(f"{self.name}: {error}") from error
