"""From what is asked to the width of every group of coupled channels."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil, gcd, lcm, prod

import numpy as np

from espalier._ground.types import Keep
from espalier.budgets._patterns import assign
from espalier.budgets._ranking import Ladder, Scores, ranked
from espalier.errors import BudgetError
from espalier.planning._cost import Cost, Limit
from espalier.planning._couple import Coupling
from espalier.sets import Coupled


def ladders(coupling: Coupling, multiple: int, minimum: int) -> list[Ladder]:
    """The widths every group may have, so that filters stay divisible by ``multiple``.

    Raises:
        BudgetError: ``multiple`` or ``minimum`` below 1.
    """
    if multiple < 1 or minimum < 1:
        raise BudgetError(f"multiple={multiple}, minimum={minimum}: both must be at least 1")
    found = []
    for group, size in enumerate(coupling.units.sizes):
        taken = {mine[group] for mine in coupling.widths.values() if group in mine} or {1}
        step = lcm(*(multiple // gcd(multiple, n) for n in taken))
        least = max(ceil(minimum / n) for n in taken)
        found.append(Ladder(size=size, step=step, least=min(size, ceil(least / step) * step)))
    return found


def evenly(
    limits: Sequence[Limit], allowed: Sequence[Ladder], held: str = ""
) -> tuple[list[int], float]:
    """The widths, one fraction of every group (and of the columns), that keep within all limits.

    The fraction is found by bisection; what the roundings leave is spent on single steps, the
    dearest that fits first, until not one more step of any group fits.

    Args:
        limits: What may be spent.
        allowed: The widths of every group.
        held: What besides stays, and why, for the message.

    Returns:
        The widths, and the fraction of the columns.

    Raises:
        BudgetError: A limit below what the least widths cost.
    """
    keep, fraction = [one.least for one in allowed], 0.0
    check_floor(limits, allowed, held)
    high, middle = 1.0, 1.0
    for _ in range(40):
        tried = [one.nearest(middle) for one in allowed]
        if all(limit.fits(tried, middle) for limit in limits):
            keep, fraction = tried, middle
        else:
            high = middle
        middle = (fraction + high) / 2
    return _spend(limits, allowed, keep, fraction), fraction


def by_rank(
    limits: Sequence[Limit],
    allowed: Sequence[Ladder],
    scores: Sequence[Scores],
    price: Cost | None,
    held: str = "",
) -> list[int]:
    """The widths when units go by their scores for their price, over all groups at once.

    Args:
        limits: What may be spent.
        allowed: The widths of every group.
        scores: Of the units of every group.
        price: What a unit's saving is counted in; by default the limits' own costs, each in parts of what it
            may be.
        held: What besides stays, and why, for the message.

    Raises:
        BudgetError: A limit below what the least widths cost.
    """
    check_floor(limits, allowed, held)

    def asked(keep: Sequence[int]) -> float:
        if price is not None:
            return float(price(keep))
        return float(sum(limit.cost(keep) / max(1, limit.most) for limit in limits))

    return ranked(scores, asked, lambda keep: all(x.fits(keep) for x in limits), allowed)


def check_floor(limits: Sequence[Limit], allowed: Sequence[Ladder], held: str) -> None:
    """Raise ``BudgetError`` where the least widths cost more than they may."""
    least = [one.least for one in allowed]
    for limit in limits:
        if not limit.fits(least, 0.0):
            floor = ceil(float(limit.cost(least, 0.0)) - 1e-3)
            dense = round(float(limit.cost([one.size for one in allowed])))
            why = f" ({held})" if held else ""
            raise BudgetError(
                f"{limit.what} {limit.most:,} cannot be met: the smallest widths leave {floor:,}{why}; "
                f"give {floor:,} to {dense:,}, or prune more layers"
            )


def _spend(
    limits: Sequence[Limit], allowed: Sequence[Ladder], keep: list[int], columns: float
) -> list[int]:
    while True:
        groups = [g for g, one in enumerate(allowed) if one.up(keep[g]) is not None]
        tried = np.array([keep] * len(groups)).reshape(-1, len(keep))
        for row, group in enumerate(groups):
            tried[row, group] = allowed[group].up(keep[group])
        fits = np.logical_and.reduce([limit.fits(tried, columns) for limit in limits])
        if not fits.any():
            return keep
        # In parts of what may be spent, so that limits of several kinds can be added up.
        asked = sum(limit.cost(tried, columns) / max(1, limit.most) for limit in limits)
        keep = tried[int(np.where(fits, asked, -np.inf).argmax())].tolist()


def explicit(
    coupling: Coupling, keep: Mapping[str, Keep | float], shapes: Mapping[str, tuple[int, ...]]
) -> Coupled:
    """Widths by weight: an int as filters, a float as a fraction, a pair as filters and columns.

    Raises:
        UnknownNameError: A name or glob that matches no weight.
        BudgetError: Widths that a weight does not have, or two for the same group.
    """
    coupled = coupling.units
    counts = list(coupled.sizes)
    said: dict[int, tuple[str, int]] = {}
    columns: dict[str, int] = {}
    for name, value in assign(keep, list(coupling.widths), "keep").items():
        filters: int | float
        if isinstance(value, tuple | list):
            filters, columns[name] = value[0], _columns(name, value[1], shapes[name])
        else:
            filters = value
        for group, count in _by_group(name, filters, coupling).items():
            other, before = said.setdefault(group, (name, count))
            if before != count:
                raise BudgetError(
                    f"{other} and {name} share their channels but are to keep {before} and {count}; "
                    "give both the same"
                )
            counts[group] = count
    return replace(coupled, keep=tuple(counts), columns=columns)


def _columns(name: str, value: int, shape: tuple[int, ...]) -> int:
    most = prod(shape[1:])
    if not 1 <= value <= most:
        raise BudgetError(f"{name}: {value} columns but it has {most}; give 1 to {most}")
    return value


def _by_group(name: str, value: int | float, coupling: Coupling) -> dict[int, int]:
    sizes, mine = coupling.units.sizes, coupling.widths[name]
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise BudgetError(
            f"{name}: keep={value!r}; give a count, a fraction, or (filters, columns)"
        )
    if isinstance(value, float):
        if not 0.0 < value <= 1.0:
            raise BudgetError(f"{name}: keep={value}; give a fraction in (0, 1] or a count")
        return {group: max(1, round(value * sizes[group])) for group in mine}
    whole = {group: sizes[group] * each for group, each in mine.items()}
    if len(mine) > 1:
        parts = " and ".join(str(n) for n in whole.values())
        raise BudgetError(
            f"{name}: its {parts} channels are tied to different layers, so keep={value} says not "
            "which; give a fraction"
        )
    ((group, each),) = mine.items()
    if not 1 <= value <= whole[group] or value % each:
        step = f", a multiple of {each}" if each > 1 else ""
        raise BudgetError(f"{name}: keep={value} of {whole[group]}; give 1 to {whole[group]}{step}")
    return {group: value // each}
