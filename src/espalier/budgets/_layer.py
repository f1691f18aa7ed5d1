"""What a budget rule may see of a tensor, and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from torch import Tensor

from espalier._ground.types import Keep
from espalier.errors import BudgetError
from espalier.sets import Set


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One tensor to share a budget with others.

    Attributes:
        shape: (O, I/groups, …).
        set: the shape of sparsity it will have.
        macs: dense multiply-accumulates for one sample; ``None`` when not measured.
        weight: its values, off the graph; ``None`` when there are none (meta device).
    """

    shape: tuple[int, ...]
    set: Set
    macs: int | None = None
    weight: Tensor | None = field(default=None, repr=False, compare=False)

    @property
    def numel(self) -> int:
        """How many weights it has."""
        return prod(self.shape)

    @property
    def least(self) -> Keep:
        """The smallest keep a rule may give: one unit, so that no layer dies unasked."""
        return self.set.keep_for(self.shape, 0.0)

    @property
    def most(self) -> Keep:
        """The largest keep: all units."""
        return self.set.units(self.shape)

    @property
    def unit_nonzeros(self) -> int | None:
        """Weights a unit lets stay; ``None`` for sets whose keep is a pair."""
        most = self.most
        return self.set.nonzeros(self.shape, most) // most if isinstance(most, int) else None

    def nonzeros(self, keep: Keep) -> int:
        """How many weights may be nonzero at ``keep``."""
        return self.set.nonzeros(self.shape, keep)

    def macs_at(self, keep: Keep) -> int:
        """Multiply-accumulates left at ``keep``; :attr:`macs` must be known."""
        return 0 if self.macs is None else self.macs * self.nonzeros(keep) // self.numel


def check_density(layers: Mapping[str, Layer], density: float) -> None:
    """Raise ``BudgetError`` unless there is something to prune and a density to prune it to."""
    if not layers:
        raise BudgetError("no tensors to share the budget; select at least one")
    if not 0.0 < density <= 1.0:
        raise BudgetError(f"density={density}; give a fraction in (0, 1]")


def check_total(layers: Mapping[str, Layer], asked: int, density: float) -> None:
    """Raise ``BudgetError`` when one unit of every tensor is already more than what is asked."""
    least = {name: layer.nonzeros(layer.least) for name, layer in layers.items()}
    floor, numel = sum(least.values()), sum(layer.numel for layer in layers.values())
    if floor > asked:
        widest = max(least, key=least.__getitem__)
        raise BudgetError(
            f"density={density:g} is {asked:,} of {numel:,} weights, but one unit of every "
            f"tensor is {floor:,} ({widest}: {least[widest]:,}); "
            f"give density in [{up(floor / numel)}, 1] or exclude some"
        )


def up(fraction: float) -> str:
    """A fraction rounded up to four significant digits, so that the bound itself is accepted."""
    for digits in range(4, 18):
        text = f"{fraction * (1 + 10.0 ** -(digits - 1)):.{digits}g}"
        if float(text) >= fraction:
            return text
    return repr(fraction)
