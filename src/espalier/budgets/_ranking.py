r"""Which units stay, ranked over all groups of coupled ones at once.

Legend: group g keeps its :math:`k_g` units of largest score; :math:`e_{g,i}` are its scores, largest
first; :math:`c(k)` is the price of all widths together. One step takes group g from :math:`k_g` to the
next smaller width :math:`k_g'` that it may have.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Widths = Sequence[int]
Scores = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """The widths a group may have: ``least``, the multiples of ``step`` above it, and ``size``.

    >>> Ladder(size=10, step=4, least=4).down(10)
    8
    """

    size: int
    step: int = 1
    least: int = 1

    def nearest(self, fraction: float) -> int:
        """The width nearest to a fraction of the group."""
        wanted = round(fraction * self.size / self.step) * self.step
        return self.size if wanted > self.size - self.step / 2 else max(self.least, wanted)

    def up(self, keep: int) -> int | None:
        """The next larger width."""
        return None if keep >= self.size else min(self.size, keep + self.step)

    def down(self, keep: int) -> int | None:
        """The next smaller width."""
        below = (keep - 1) // self.step * self.step
        return below if below >= self.least else None


def ranked(
    scores: Sequence[Scores],
    price: Callable[[Widths], float],
    fits: Callable[[Widths], bool],
    allowed: Sequence[Ladder],
) -> list[int]:
    r"""The widths that are left when the units that matter least for their price go first.

    .. math:: g^* = \arg\min_g \frac{\sum_{k_g' \le i < k_g} e_{g,i}}{c(k) - c(k')}

    step after step, every saving counted at the widths of that moment, until the widths fit. What the
    last step leaves is given back, the most score for its price first, until nothing more fits.

    Savings only fall as other groups shrink, and scores only rise along a group; so a ratio found once is
    a lower bound for ever after, and a heap of such bounds gives the least without asking all groups.

    Args:
        scores: Of every group's units, in any order, ≥ 0.
        price: c, of the widths of all groups.
        fits: Whether widths meet what is asked; true for the least ones.
        allowed: The widths of every group.

    Source: the greedy rule for knapsack covering, with marginal savings; lazily as Minoux 1978,
    *Accelerated greedy algorithms*.

    Example:
        >>> two = [np.array([9.0, 1.0, 4.0]), np.array([3.0, 2.0])]
        >>> ranked(two, sum, lambda k: sum(k) <= 3, [Ladder(size=3), Ladder(size=2)])
        [2, 1]
    """
    rising = [np.sort(group) for group in scores]
    # below[g][i]: the i smallest scores together.
    below = [np.concatenate([[0.0], np.cumsum(group)]) for group in rising]
    keep = [one.size for one in allowed]

    def lost(group: int, wide: int, narrow: int) -> float:
        size = allowed[group].size
        return float(below[group][size - narrow] - below[group][size - wide])

    def moved(group: int, width: int) -> list[int]:
        return [*keep[:group], width, *keep[group + 1 :]]

    def ratio(group: int, now: float) -> float | None:
        width = allowed[group].down(keep[group])
        if width is None:
            return None
        saved = now - price(moved(group, width))
        # What saves nothing goes last, and among such the least score first.
        return lost(group, keep[group], width) / saved if saved > 0 else np.inf

    now = price(keep)
    heap = [(found, g) for g in range(len(allowed)) if (found := ratio(g, now)) is not None]
    heapq.heapify(heap)
    while heap and not fits(keep):
        _, group = heapq.heappop(heap)
        found = ratio(group, now)
        if found is None:
            continue
        if heap and found > heap[0][0]:
            heapq.heappush(heap, (found, group))
            continue
        width = allowed[group].down(keep[group])
        assert width is not None
        keep[group] = width
        now = price(keep)
        if (after := ratio(group, now)) is not None:
            heapq.heappush(heap, (after, group))
    while True:
        options = []
        for group, one in enumerate(allowed):
            wider = one.up(keep[group])
            if wider is not None and fits(moved(group, wider)):
                paid = max(price(moved(group, wider)) - now, 1e-300)
                options.append((lost(group, wider, keep[group]) / paid, -group, wider))
        if not options:
            return keep
        _, group, wider = max(options)
        keep[-group] = wider
        now = price(keep)
