"""From one figure to the width of every group of coupled channels."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, gcd, lcm, prod

from espalier._ground.types import Keep
from espalier.budgets._patterns import assign
from espalier.errors import BudgetError
from espalier.planning._couple import Coupling
from espalier.sets import Alone, Coupled


@dataclass(frozen=True, kw_only=True)
class Steps:
    """The widths a group may have: ``least``, then every ``step``, and all of it."""

    size: int
    step: int
    least: int

    def nearest(self, fraction: float) -> int:
        """The allowed count nearest to a fraction of the group."""
        wanted = round(fraction * self.size / self.step) * self.step
        return self.size if wanted > self.size - self.step / 2 else max(self.least, wanted)

    def next(self, keep: int) -> int | None:
        """The next larger one."""
        if keep >= self.size:
            return None
        return min(self.size, keep + self.step)


def steps(coupling: Coupling, multiple: int, minimum: int) -> list[Steps]:
    """The widths every group may have, so that filters stay divisible by ``multiple``.

    Raises:
        BudgetError: ``multiple`` or ``minimum`` below 1.
    """
    if multiple < 1 or minimum < 1:
        raise BudgetError(f"multiple={multiple}, minimum={minimum}: both must be at least 1")
    assert coupling.coupled is not None
    found = []
    for group, size in enumerate(coupling.coupled.sizes):
        taken = {mine[group] for mine in coupling.widths.values() if group in mine} or {1}
        step = lcm(*(multiple // gcd(multiple, n) for n in taken))
        least = max(ceil(minimum / n) for n in taken)
        found.append(Steps(size=size, step=step, least=min(size, ceil(least / step) * step)))
    return found


_Axes = list[tuple[int, dict[int, int]]]


class Cost:
    r"""What a model costs at given widths: MACs or weights, an integer.

    .. math:: c(k) = F + \sum_l c_l \prod_{a} \frac{\text{indices left along } a}{n_{l,a}}

    Args:
        coupled: The units.
        dense: By tensor: its cost when it is dense.
        shapes: By tensor.
        fixed: F, the cost of all else.
        pruned_columns: The tensors that lose columns besides.
        alone: The tensors that are pruned by themselves besides: they cost what is left of both.
    """

    def __init__(
        self,
        coupled: Coupled,
        dense: Mapping[str, int],
        shapes: Mapping[str, tuple[int, ...]],
        fixed: int = 0,
        pruned_columns: Collection[str] = (),
        alone: Mapping[str, Alone] | None = None,
    ) -> None:
        self._pruned_columns = pruned_columns
        self._alone = {
            name: (one, one.whole(coupled.alongs(name))) for name, one in (alone or {}).items()
        }
        self._fixed = fixed
        self._terms = [
            (name, cost, shapes[name], [coupled.taken(along) for along in coupled.alongs(name)])
            for name, cost in dense.items()
        ]
        self._sizes = coupled.sizes

    def __call__(self, keep: Sequence[int], columns: float | None = None) -> int:
        """At ``keep`` units of every group, and a fraction of the columns that are then left."""
        total = self._fixed
        for name, cost, shape, axes in self._terms:
            sides = self._sides(shape, axes, keep)
            left = prod(sides)
            if name in self._pruned_columns and columns is not None:
                left = sides[0] * _share(columns, prod(sides[1:]))
            elif name in self._alone:
                one, whole = self._alone[name]
                left = one.left_of(left, whole)
            total += cost * left // max(1, prod(shape))
        return total

    def columns(self, keep: Sequence[int], fraction: float) -> dict[str, int]:
        """How many columns stay in the tensors that lose them."""
        return {
            name: _share(fraction, prod(self._sides(shape, axes, keep)[1:]))
            for name, _, shape, axes in self._terms
            if name in self._pruned_columns
        }

    def _sides(self, shape: tuple[int, ...], axes: _Axes, keep: Sequence[int]) -> list[int]:
        sides = list(shape)
        for axis, inside in axes:
            sides[axis] -= sum(n * (self._sizes[g] - keep[g]) for g, n in inside.items())
        return sides


def for_cost(
    cost: Cost, coupled: Coupled, allowed: Sequence[Steps], limit: int, what: str
) -> Coupled:
    """The widths, one fraction of every group (and of the columns), that cost at most ``limit``.

    The fraction is found by bisection; what the roundings leave is spent on single steps, the
    dearest that fits first, until not one more step of any group fits.

    Raises:
        BudgetError: The limit is below what the least widths cost.
    """
    keep, fraction = [one.least for one in allowed], 0.0
    floor = cost(keep, fraction)
    if limit < floor:
        dense = cost([one.size for one in allowed], 1.0)
        raise BudgetError(
            f"{what} {limit:,} cannot be met: the smallest widths leave {floor:,}; "
            f"give {floor:,} to {dense:,}, or prune more layers"
        )
    high, middle = 1.0, 1.0
    for _ in range(40):
        tried = [one.nearest(middle) for one in allowed]
        if cost(tried, middle) <= limit:
            keep, fraction = tried, middle
        else:
            high = middle
        middle = (fraction + high) / 2
    keep = _spend(lambda widths: cost(widths, fraction), allowed, keep, limit)
    return replace(coupled, keep=tuple(keep), columns=cost.columns(keep, fraction))


def _spend(
    cost: Callable[[Sequence[int]], int], allowed: Sequence[Steps], keep: list[int], limit: int
) -> list[int]:
    while True:
        options = []
        for group, one in enumerate(allowed):
            wider = one.next(keep[group])
            if wider is not None:
                tried = [*keep[:group], wider, *keep[group + 1 :]]
                if (asked := cost(tried)) <= limit:
                    options.append((asked, -group, tried))
        if not options:
            return keep
        keep = max(options)[2]


def explicit(
    coupling: Coupling, keep: Mapping[str, Keep | float], shapes: Mapping[str, tuple[int, ...]]
) -> Coupled:
    """Widths by weight: an int as filters, a float as a fraction, a pair as filters and columns.

    Raises:
        UnknownNameError: A name or glob that matches no weight.
        BudgetError: Widths that a weight does not have, or two for the same group.
    """
    assert coupling.coupled is not None
    coupled = coupling.coupled
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
    assert coupling.coupled is not None
    sizes, mine = coupling.coupled.sizes, coupling.widths[name]
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


def _share(fraction: float, columns: int) -> int:
    return min(columns, max(1, round(fraction * columns)))
