"""One tensor that is pruned by itself: a set and how many of its units may stay."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from espalier._ground.types import Keep, Weights
from espalier.sets._along import Along
from espalier.sets._coupled import Coupled
from espalier.sets._naming import named
from espalier.sets._set import GroupSet, Set


@dataclass(frozen=True)
class Alone:
    r"""At most ``keep`` units of one tensor are nonzero: :math:`S = \{z : z_t \in S_{\text{set}}(k)\}`.

    Args:
        name: Of the parameter.
        shape: Of the tensor.
        set: What the units are.
        keep: How many may stay, a count (a pair for ``FiltersAndColumns``).

    Raises:
        BudgetError: A keep that the tensor does not have.
        ShapeError: A set that does not fit the tensor.

    Example:
        >>> from espalier.sets import Unstructured
        >>> Alone("w", (3,), Unstructured(), 1).support({"w": torch.tensor([1.0, -3.0, 2.0])})
        {'w': tensor([False,  True, False])}
    """

    name: str
    shape: tuple[int, ...]
    set: Set
    keep: Keep

    def __post_init__(self) -> None:
        with named(self.name):
            self.set.check(self.shape)
            self.set.nonzeros(self.shape, self.keep)

    @property
    def names(self) -> tuple[str, ...]:
        """The one parameter."""
        return (self.name,)

    @property
    def implies(self) -> tuple[str, ...]:
        """None: its units take nothing along."""
        return ()

    @property
    def nonzeros(self) -> int:
        """How many weights may be nonzero."""
        return self.set.nonzeros(self.shape, self.keep)

    def opened(self, slack: float, shapes: Mapping[str, Sequence[int]] | None = None) -> "Alone":
        """With ``keep + round((units − keep) · slack)`` units, elementwise for pairs.

        At 1 all units stay; those of ``NOfM`` and ``KernelPatterns`` are sparse themselves even then.
        """
        keep, units = self.keep, self.set.units(self.shape)
        if isinstance(keep, tuple) and isinstance(units, tuple):
            pair = _between(keep[0], units[0], slack), _between(keep[1], units[1], slack)
            return replace(self, keep=pair)
        assert isinstance(keep, int)
        assert isinstance(units, int)
        return replace(self, keep=_between(keep, units, slack))

    def support(self, w: Weights, h: Weights | None = None) -> dict[str, Tensor]:
        """Boolean mask by name; errors are those of :meth:`Set.project`, with the name in front."""
        with named(self.name):
            return {self.name: self.set.support(w[self.name], self.keep, (h or {}).get(self.name))}

    def contains(self, w: Weights) -> bool:
        """Whether the tensor lies in its set."""
        return self.set.contains(w[self.name], self.keep)

    def implied_masks(
        self, members: Weights, shapes: Mapping[str, Sequence[int]]
    ) -> dict[str, Tensor]:
        """Nothing: its zeros touch no other tensor."""
        return {}

    def left(self, *taking: Coupled) -> int:
        """How many weights may be nonzero when coupled units that go take slices of the tensor along.

        Where slices cut through units (one input of a 2:4 group of four) it is the most there can be:
        which weights are left depends on which slices go.
        """
        live, whole = prod(self.shape), True
        for one in taking:
            if self.name in one.implied:
                live = live * one.left(self.name, self.shape) // max(1, prod(self.shape))
                whole = whole and self.whole(one.alongs(self.name))
        return self.left_of(live, whole)

    def left_of(self, live: int, whole: bool) -> int:
        """The same when ``live`` of its weights are left, in ``whole`` units or not."""
        numel = prod(self.shape)
        if live == numel:
            return self.nonzeros
        if whole and isinstance(self.keep, int):
            units = self.set.units(self.shape)
            assert isinstance(units, int)
            return self.set.nonzeros(self.shape, min(self.keep, units * live // numel))
        return min(self.nonzeros, live)

    def whole(self, alongs: Sequence[Along]) -> bool:
        """Whether no unit of the set is cut by slices along these axes."""
        if not isinstance(self.set, GroupSet):
            return False
        split, within = self.set.layout(self.shape)
        for along in alongs:
            thin = [1] * len(self.shape)
            thin[along.axis] = len(along.units)
            ids = torch.tensor(along.units).reshape(thin).expand(self.shape).reshape(split)
            if within and bool((ids.amax(within) != ids.amin(within)).any()):
                return False
        return True


def _between(keep: int, units: int, slack: float) -> int:
    return keep + round((units - keep) * slack)
