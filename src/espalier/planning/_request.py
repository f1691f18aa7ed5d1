"""What is asked of a plan."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import floor

from espalier._ground.types import Keep
from espalier.budgets import Layer
from espalier.errors import BudgetError
from espalier.measure import LayerCosts
from espalier.sets import Shared

Allocation = Callable[[Mapping[str, Layer], float], dict[str, Keep] | Shared]
"""A budget rule: from the tensors and a density to keeps, or to a budget they share."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One of three figures, how it is shared, and what widths are allowed."""

    density: float | None
    macs: float | int | None
    keep: Mapping[str, Keep | float] | None
    allocation: Allocation
    multiple: int
    minimum: int


def macs_limit(macs: float | int, costs: LayerCosts) -> int:
    """A float in (0, 1] is a fraction of the dense MACs, anything else a number of them."""
    is_fraction = isinstance(macs, float) and macs <= 1.0
    return floor(macs * costs.total) if is_fraction else floor(macs)


def one_figure(
    density: float | None,
    sparsity: float | None,
    compression: float | None,
    macs: float | int | None,
    keep: object,
) -> float | None:
    """The density, or ``None`` when the figure is one of MACs or of explicit keeps."""
    given = {
        "density": density,
        "sparsity": sparsity,
        "compression": compression,
        "macs": macs,
        "keep": keep,
    }
    said = [name for name, value in given.items() if value is not None]
    if len(said) != 1:
        got = " and ".join(f"{name}=" for name in said) or "none"
        raise BudgetError(
            f"got {got}; give exactly one of density=, sparsity=, compression=, macs=, keep="
        )
    if density is not None and not 0.0 < density <= 1.0:
        raise BudgetError(f"density={density}; give a fraction in (0, 1]")
    if sparsity is not None and not 0.0 <= sparsity < 1.0:
        raise BudgetError(f"sparsity={sparsity}; give a fraction in [0, 1)")
    if compression is not None and not 1.0 <= compression < float("inf"):
        raise BudgetError(f"compression={compression}; give a ratio of counts, 1 or more")
    if macs is not None and not 0 < macs < float("inf"):
        raise BudgetError(f"macs={macs}; give a fraction in (0, 1] as a float, or a number of MACs")
    if sparsity is not None:
        return 1.0 - sparsity
    return 1.0 / compression if compression is not None else density
