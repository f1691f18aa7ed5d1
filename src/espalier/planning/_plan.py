"""The plan: parameter name → (set, keep), with what it costs and saves."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn

from espalier._ground.types import Weights
from espalier.budgets._patterns import hint
from espalier.errors import BudgetError, ShapeError, UnknownNameError, nearest
from espalier.measure import Count, SparsityReport, tally
from espalier.planning import _file, _table
from espalier.planning._entry import Entry, Skipped, named
from espalier.sets import Coupled, Shared


@dataclass(frozen=True, kw_only=True)
class Plan:
    r"""Which set and keep each parameter of a model has; made by :func:`espalier.plan`.

    .. math:: W \in S \iff W_l \in S_l(k_l) \;\forall l, \quad\text{or, with a shared budget,}\quad
              (W_1, \dots, W_L) \in S_{\text{shared}}

    Attributes:
        entries: by parameter name, in the model's order.
        shared: one budget over all entries instead of one keep each; ``None`` when there is none.
        coupled: the units that run through all entries, for plans that take out whole channels;
            ``None`` when every tensor is pruned by itself.
        skipped: the parameters left dense, and why.
        between_activations: MACs for one sample of products without weights (attention).
        notes: what the measurement of MACs could not see, a sentence each.

    Raises:
        BudgetError: no entries, or a shared budget, or coupled units, over other tensors than they.

    Example:
        >>> from espalier.planning import plan
        >>> model = nn.Linear(8, 4)
        >>> p = plan(model, density=0.25)
        >>> p.names, p.entries["weight"].keep, p.counts().all_params.nonzero
        (('weight',), 8, 12)
    """

    entries: Mapping[str, Entry]
    shared: Shared | None = None
    coupled: Coupled | None = None
    skipped: tuple[Skipped, ...] = field(default=())
    between_activations: int = 0
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if not self.entries:
            raise BudgetError("a plan needs at least one parameter to prune")
        if self.shared is not None and set(self.shared.costs) != set(self.entries):
            odd = sorted(set(self.shared.costs) ^ set(self.entries))[0]
            raise BudgetError(f"{odd}: in the shared budget or in the entries, but not in both")
        if self.coupled is not None and set(self.coupled.members) != set(self.entries):
            odd = sorted(set(self.coupled.members) ^ set(self.entries))[0]
            raise BudgetError(f"{odd}: in the coupled units or in the entries, but not in both")

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters to prune, in the model's order."""
        return tuple(self.entries)

    @cached_property
    def density(self) -> float:
        """Fraction of the selected tensors' weights that may stay."""
        rows = self.entries.values()
        return sum(self.left(row) for row in rows) / max(1, sum(row.numel for row in rows))

    @property
    def held(self) -> Mapping[str, Tensor]:
        """No zero is held before the first update: any weight may still be among those that stay."""
        return {}

    @property
    def macs(self) -> int | None:
        """Dense multiply-accumulates of the model for one sample; ``None`` when not measured."""
        if any(entry.macs is None for entry in self.entries.values()):
            return None
        rows: list[Entry | Skipped] = [*self.entries.values(), *self.skipped]
        return self.between_activations + sum(row.macs or 0 for row in rows)

    @property
    def macs_left(self) -> int | None:
        """Multiply-accumulates left if every product with a pruned weight is skipped."""
        dense = self.macs
        if dense is None:
            return None
        rows: list[Entry | Skipped] = [*self.entries.values(), *self.skipped]
        return dense - sum((row.macs or 0) - (self.macs_of(row) or 0) for row in rows)

    def left(self, row: Entry | Skipped) -> int:
        """How many weights of a parameter stay, what channels that go take along left out."""
        if self.coupled is not None and isinstance(row, Entry):
            return self.coupled.left(row.name, row.shape)
        return row.nonzeros

    def macs_of(self, row: Entry | Skipped) -> int | None:
        """Multiply-accumulates of the weights of a parameter that stay, one sample."""
        return None if row.macs is None else row.macs * self.left(row) // max(1, row.numel)

    def counts(self) -> SparsityReport:
        """What the plan will leave, by counting convention; the parameters left dense count whole."""
        rows: dict[str, Entry | Skipped] = {**self.entries}
        rows |= {row.name: row for row in self.skipped if row.layer_kind is not None}
        layers = {
            name: Count(total=row.numel, nonzero=self.left(row)) for name, row in rows.items()
        }
        kinds = {name: kind for name, row in rows.items() if (kind := row.layer_kind) is not None}
        return tally(layers, kinds, self.names)

    def support(
        self, weights: Weights, metrics: Weights | None = None, slack: float = 0.0
    ) -> dict[str, Tensor]:
        """Boolean masks by name: where the nearest point of each set may be nonzero.

        Args:
            weights: every parameter in :attr:`names`; others are ignored.
            metrics: diagonal of H by name, shape of the weight; a name that is missing has H = I.
            slack: how far the constraint is open, from 0 (the plan's budget) to 1 (dense).

        Raises:
            UnknownNameError: a parameter without weights.
            ShapeError: weights, or a metric, of another shape.
            BudgetError: slack outside [0, 1].
            NonFiniteError: NaN or infinity, with the parameter's name.
        """
        if not 0.0 <= slack <= 1.0:
            raise BudgetError(f"slack={slack}; give 0 (the plan's keep) to 1 (dense)")
        given = {name: self._weight(weights, name) for name in self.entries}
        metrics = {name: h for name, h in (metrics or {}).items() if name in self.entries}
        if self.shared is not None:
            shapes = {name: entry.shape for name, entry in self.entries.items()}
            return self.shared.opened(slack, shapes).support(given, metrics)
        if self.coupled is not None:
            shapes = {name: entry.shape for name, entry in self.entries.items()}
            return self.coupled.opened(slack, shapes).support(given, metrics)
        masks = {}
        for name, entry in self.entries.items():
            with named(name):
                masks[name] = entry.set.support(given[name], entry.opened(slack), metrics.get(name))
        return masks

    def project(
        self, weights: Weights, metrics: Weights | None = None, slack: float = 0.0
    ) -> dict[str, Tensor]:
        """Nearest point by name: each tensor unchanged on its support, zero elsewhere; detached.

        Arguments and errors are those of :meth:`support`.
        """
        masks = self.support(weights, metrics, slack)
        return {name: torch.where(mask, weights[name].detach(), 0) for name, mask in masks.items()}

    def contains(self, weights: Weights) -> bool:
        """Whether the tensors are in their sets, at the plan's own budget."""
        given = {name: self._weight(weights, name) for name in self.entries}
        if self.shared is not None:
            return self.shared.contains(given)
        if self.coupled is not None:
            return self.coupled.contains(given)
        return all(e.set.contains(given[name], e.keep) for name, e in self.entries.items())

    def implied(self, masks: Weights, parameters: Weights) -> dict[str, Tensor]:
        """Masks of further parameters: what multiplies the zeros of channels that go.

        Args:
            masks: of the entries, from :meth:`support`.
            parameters: all of the model's, by name; only their shapes matter.
        """
        if self.coupled is None:
            return {}
        shapes = {name: parameters[name].shape for name in self.coupled.implied}
        found = self.coupled.implied_masks(masks, shapes)
        return {name: mask & masks[name] if name in masks else mask for name, mask in found.items()}

    def check(self, model: nn.Module) -> None:
        """Raise unless the model has every parameter to prune, in the planned shape.

        Raises:
            UnknownNameError: a parameter that the model does not have; the nearest is suggested.
            ShapeError: a parameter of another shape.
        """
        parameters = dict(model.named_parameters(remove_duplicate=False))
        for name, entry in self.entries.items():
            if name not in parameters:
                raise UnknownNameError(
                    f"the plan prunes {name!r}, which the model does not have; "
                    f"{hint(name, parameters)}; or make the plan anew for this model"
                )
            shape = tuple(parameters[name].shape)
            if shape != entry.shape:
                raise ShapeError(
                    f"{name}: shape {shape} in the model but {entry.shape} in the plan; "
                    "make the plan anew for this model"
                )

    def table(self) -> Table:
        """For people: every parameter, what is left, totals, and which runtime can use it."""
        return _table.render(self)

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON or YAML data; :meth:`from_dict` reads it back."""
        return _file.to_dict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Plan":
        """The plan that :meth:`to_dict` wrote.

        Raises:
            CheckpointError: not a plan, or of another version.
            UnknownNameError: an unknown key or set; the nearest is suggested.
            BudgetError, ShapeError: a keep or a set that a tensor cannot have.
        """
        return cls(**_file.fields_of(data))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write YAML, atomically."""
        _file.write(self.to_dict(), path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Plan":
        """Read what :meth:`save` wrote; equal to what was saved.

        Raises:
            CheckpointError: no such file, no YAML, or not a plan; and as :meth:`from_dict`.
        """
        with named(os.fspath(path)):
            return cls.from_dict(_file.read(path))

    def _weight(self, weights: Weights, name: str) -> Tensor:
        if name not in weights:
            raise UnknownNameError(f"no weights given for {name!r}; {nearest(name, weights)}")
        w, shape = weights[name], self.entries[name].shape
        if tuple(w.shape) != shape:
            raise ShapeError(f"{name}: shape {tuple(w.shape)} but the plan was made for {shape}")
        return w
