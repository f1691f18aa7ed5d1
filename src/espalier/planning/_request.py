"""What is asked of a plan."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import floor
from numbers import Real

from espalier._ground.types import Keep
from espalier.budgets import Layer
from espalier.errors import BudgetError, shown
from espalier.measure import LayerCosts
from espalier.sets import Shared

Allocation = Callable[[Mapping[str, Layer], float], dict[str, Keep] | Shared]
"""A budget rule: from the tensors and a density to keeps, or to a budget they share."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """The figures, how they are shared, and what widths are allowed."""

    density: float | None
    macs: float | int | None
    bytes: float | int | None
    keep: Mapping[str, Keep | float] | None
    allocation: Allocation
    multiple: int
    minimum: int


def macs_limit(macs: float | int, costs: LayerCosts) -> int:
    """A float in (0, 1] is a fraction of the dense MACs, anything else a number of them."""
    return _limit(macs, costs.total)


def bytes_limit(bytes: float | int, dense: int) -> int:
    """A float in (0, 1] is a fraction of the dense bytes, anything else a number of them."""
    return _limit(bytes, dense)


def _limit(figure: float | int, dense: int) -> int:
    is_fraction = isinstance(figure, float) and figure <= 1.0
    return floor(figure * dense) if is_fraction else floor(figure)


def one_figure(
    density: float | None,
    sparsity: float | None,
    compression: float | None,
    macs: float | int | None,
    keep: object,
    bytes: float | int | None = None,
    several: bool = False,
) -> float | None:
    """The density, or ``None`` when none is asked for.

    Args:
        density: As for :func:`espalier.plan`, like the others.
        sparsity: Likewise.
        compression: Likewise.
        macs: Likewise.
        keep: Likewise.
        bytes: Likewise.
        several: Whether a density, MACs and bytes may be asked for at once.
    """
    given = {
        "density": density,
        "sparsity": sparsity,
        "compression": compression,
        "macs": macs,
        "bytes": bytes,
        "keep": keep,
    }
    said = [name for name, value in given.items() if value is not None]
    kinds = {name: name if name in ("macs", "bytes", "keep") else "density" for name in said}
    together = several and len(set(kinds.values())) == len(said) and "keep" not in said
    if len(said) != 1 and not (said and together):
        got = " and ".join(f"{name}=" for name in said) or "none"
        also = "" if several else "; several at once are for coupled filters and channels"
        raise BudgetError(
            f"got {got}; give exactly one of density=, sparsity=, compression=, macs=, bytes=, keep="
            + (", or macs= and bytes= beside one of the first three" if several else also)
        )
    for name in said:
        figure = given[name]
        if name != "keep" and (isinstance(figure, bool) or not isinstance(figure, Real)):
            raise BudgetError(f"{name}={shown(figure)}; give a number")
    if bytes is not None and not several:
        raise BudgetError(
            "bytes= is a budget of coupled channels; give it with set=Filters() (or Channels, "
            "FiltersAndColumns) and example_input="
        )
    if bytes is not None and not 0 < bytes < float("inf"):
        raise BudgetError(
            f"bytes={bytes}; give a fraction in (0, 1] as a float, or a number of bytes"
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
