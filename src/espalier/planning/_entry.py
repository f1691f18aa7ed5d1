"""The rows of a plan: what a parameter may keep, or why it is left dense."""

from dataclasses import dataclass, replace
from math import prod

from espalier._ground.types import Keep
from espalier.measure import LayerCosts, LayerKind
from espalier.sets import Alone, Set


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What one parameter may keep.

    Attributes:
        name: as in ``model.named_parameters()``.
        shape: the tensor's.
        set: the shape of sparsity.
        keep: how many of the set's units may stay; under a shared budget what the weights at hand
            keep, for information.
        layer_kind: kind of the layer it belongs to.
        macs: dense multiply-accumulates for one sample; ``None`` when not measured.

    Raises:
        BudgetError: a keep that the tensor does not have.
        ShapeError: a set that does not fit the tensor.
    """

    name: str
    shape: tuple[int, ...]
    set: Set
    keep: Keep
    layer_kind: LayerKind = LayerKind.OTHER
    macs: int | None = None

    def __post_init__(self) -> None:
        _ = self.alone  # which checks

    @property
    def alone(self) -> Alone:
        """The constraint of this row, where it is pruned by itself."""
        return Alone(self.name, self.shape, self.set, self.keep)

    @property
    def numel(self) -> int:
        """How many weights the tensor has."""
        return prod(self.shape)

    @property
    def units(self) -> Keep:
        """The largest keep: all the units of the tensor."""
        return self.set.units(self.shape)

    @property
    def nonzeros(self) -> int:
        """How many weights may be nonzero at the keep."""
        return self.set.nonzeros(self.shape, self.keep)

    @property
    def macs_left(self) -> int | None:
        """Multiply-accumulates of the weights that may be nonzero, one sample."""
        return None if self.macs is None else self.macs * self.nonzeros // max(1, self.numel)

    def opened(self, slack: float) -> Keep:
        """The keep at a slack: ``keep + round((units − keep) · slack)``, elementwise for pairs."""
        return self.alone.opened(slack).keep


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A parameter the plan leaves dense, and why.

    Attributes:
        name: as in ``model.named_parameters()``; an alias for a shared parameter.
        shape: the tensor's.
        reason: "bias", "normalisation", "excluded by 'fc*'", "shared with 'x'" …
        layer_kind: kind of the layer it belongs to; ``None`` for an alias, which counts nowhere.
        macs: multiply-accumulates for one sample; ``None`` when not measured.
        left: weights that stay, where channels that go take some along; ``None``: all.
    """

    name: str
    shape: tuple[int, ...]
    reason: str
    layer_kind: LayerKind | None = None
    macs: int | None = None
    left: int | None = None

    @property
    def numel(self) -> int:
        """How many weights the tensor has."""
        return prod(self.shape)

    @property
    def nonzeros(self) -> int:
        """How many weights may be nonzero."""
        return self.numel if self.left is None else self.left


def with_macs(row: Skipped, costs: LayerCosts | None) -> Skipped:
    """The same row with what it costs, where that was measured."""
    if costs is None or row.name not in costs:
        return row
    return replace(row, macs=costs[row.name].macs)
