r"""What a model costs as a function of its widths.

Legend: group g has :math:`n_g` coupled units, of which :math:`k_g` stay; term t costs :math:`c_t` when it
is dense, and along its axis a, of :math:`s_{ta}` indices, one unit of g takes :math:`m_{tag}` of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Axis = tuple[int, Mapping[int, int]]
"""How many indices an axis has, and how many of them one unit of each group takes."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Term:
    """A summand: what it costs when dense, and the axes along which it shrinks."""

    cost: float
    axes: tuple[Axis, ...] = ()


Odd = Callable[[Sequence[int], float], float]
"""A summand of another form: from widths, and the fraction of the columns that stay, to its cost."""


class Cost:
    r"""The cost at given widths, of many of them at once.

    .. math:: c(k) = F + \sum_t c_t \prod_a \Bigl(1 - \sum_g \frac{m_{tag} (n_g - k_g)}{s_{ta}}\Bigr)

    A convolution's multiply-accumulates are one term with the axes (outputs, inputs); those of q·kᵀ one
    with heads and width; a tensor's bytes one with its axes.

    Args:
        terms: The summands.
        sizes: n, units of every group.
        fixed: F, the cost of all else.
        odd: Summands of another form.

    Example:
        >>> square = Term(cost=100, axes=((10, {0: 1}), (10, {0: 1})))
        >>> Cost([square], [10], fixed=7)([[10], [5]]).tolist()
        [107.0, 32.0]
    """

    def __init__(
        self, terms: Sequence[Term], sizes: Sequence[int], fixed: float = 0, odd: Sequence[Odd] = ()
    ) -> None:
        self._sizes = np.array(sizes, dtype=np.float64)
        self._dense = np.array([term.cost for term in terms], dtype=np.float64)
        self._fixed, self._odd = fixed, odd
        rank = max((len(term.axes) for term in terms), default=0)
        # takes[a, t, g]: the fraction of axis a of term t that one unit of group g takes.
        self._takes = np.zeros((rank, len(terms), len(sizes)))
        for t, term in enumerate(terms):
            for a, (size, inside) in enumerate(term.axes):
                for group, count in inside.items():
                    self._takes[a, t, group] = count / size

    @classmethod
    def counting(cls, sizes: Sequence[int]) -> "Cost":
        """One for every unit."""
        terms = [Term(cost=n, axes=((n, {group: 1}),)) for group, n in enumerate(sizes)]
        return cls(terms, sizes)

    def __call__(self, keep: ArrayLike, columns: float = 1.0) -> Numbers:
        """At ``keep`` units of every group, shape (…, groups), and a fraction of the columns."""
        widths = np.asarray(keep)
        gone = self._sizes - widths
        left = np.broadcast_to(self._dense, (*gone.shape[:-1], len(self._dense)))
        for takes in self._takes:
            left = left * (1 - gone @ takes.T)
        total: Numbers = np.asarray(left.sum(-1) + self._fixed)
        for one in self._odd:
            flat = [one(row, columns) for row in widths.reshape(-1, len(self._sizes)).tolist()]
            total = total + np.array(flat).reshape(total.shape)
        return total


@dataclass(frozen=True, kw_only=True)
class Limit:
    """What one cost may be.

    Attributes:
        what: "macs", "bytes", "weights".
        cost: The cost.
        most: What it may be.
    """

    what: str
    cost: Cost
    most: int

    def fits(self, keep: ArrayLike, columns: float = 1.0) -> NDArray[np.bool_]:
        """Whether widths, one row or several, cost no more; counts are whole, so a rounding is forgiven."""
        found: NDArray[np.bool_] = self.cost(keep, columns) <= self.most + 1e-3
        return found
