"""Whole filters and whole columns go together: a dense submatrix of the GEMM view stays."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from math import comb, sqrt

import torch
from torch import Tensor

from espalier._ground.types import Keep
from espalier.errors import BudgetError
from espalier.sets._energy import energy
from espalier.sets._layout import matrix, refuse_groups
from espalier.sets._select import largest
from espalier.sets._set import Set, check_density

ENUMERATED = 4096
"""The most choices of one side that are tried one by one."""

_CHUNK = 256


@dataclass(frozen=True)
class FiltersAndColumns(Set):
    r"""At most ``keep[0]`` nonzero filters and ``keep[1]`` nonzero columns of (O, I, \*k).

    .. math:: S = \{z : \#\{o : z_{o:} \ne 0\} \le f,\; \#\{j : z_{:j} \ne 0\} \le c\},
              \qquad j = 1 \dots I \prod k

    The nearest point keeps the f × c submatrix of largest :math:`\sum h_{oj} w_{oj}^2`. To find it
    is NP-hard in general (it contains the maximum edge biclique), but given the filters the best
    columns are the c of largest energy in them. So:

    - if one side has at most 4096 choices, all are tried: **the nearest point, exactly**;
    - else filters and columns are chosen in turn until nothing changes, once from all columns and
      once from all filters, and the better of the two is taken: **a local optimum**, where neither
      side alone can be improved. On 100 random Gaussian 6×7 problems it retained 99.8 % of the best
      submatrix's energy on average and 91.7 % at worst, by brute force in the tests.

    A point of the set is its own projection in both cases. Units: a filter and a column, (O,
    I·prod(k)) of them; ``keep`` is a pair of counts.

    Raises:
        ShapeError: Fewer than two axes, or a grouped convolution.

    Source: Ma et al. 2019 (P-RM, arXiv 1905.00136), who prune both and project onto the one and
    then the other; Peeters 2003, *The maximum edge biclique problem is NP-complete*.

    Example:
        >>> import torch
        >>> FiltersAndColumns().project(torch.tensor([[9.0, 0.0], [5.0, 6.0]]), keep=(1, 1))
        tensor([[9., 0.], [0., 0.]])
    """

    name = "filters_and_columns"
    unit = "filters and columns"
    usable_by = (
        "faster on every runtime once compacted, by the filters and by the channels all of whose "
        "columns go; other columns as for columns: gathered, faster for wide layers only"
    )

    def check(self, shape: Sequence[int], *, groups: int = 1) -> None:
        self.units(shape)
        refuse_groups(groups, "columns")

    def units(self, shape: Sequence[int]) -> tuple[int, int]:
        return matrix(shape, self.unit)

    def nonzeros(self, shape: Sequence[int], keep: Keep) -> int:
        filters, columns = self._pair(shape, keep)
        return filters * columns

    def keep_for(self, shape: Sequence[int], density: float) -> tuple[int, int]:
        """The same fraction √density of both sides; then the columns that come nearest."""
        check_density(density)
        rows, columns = self.units(shape)
        filters = min(rows, max(1, round(rows * sqrt(density))))
        return filters, min(columns, max(1, round(density * rows * columns / max(1, filters))))

    def support(self, w: Tensor, keep: Keep, metric: Tensor | None = None) -> Tensor:
        pair = self._pair(w.shape, keep)
        e = energy(w, metric)[0].reshape(self.units(w.shape)).double()
        if 0 in pair or 0 in e.shape:
            return torch.zeros(w.shape, dtype=torch.bool, device=w.device)
        choices = [comb(n, k) for n, k in zip(e.shape, pair, strict=True)]
        if min(choices) > ENUMERATED:
            rows, columns = _alternate(e, *pair)
        elif choices[0] <= choices[1]:
            rows, columns = _enumerate(e, *pair)
        else:
            columns, rows = _enumerate(e.T, pair[1], pair[0])
        return (rows[:, None] & columns).reshape(w.shape)

    def contains(self, w: Tensor, keep: Keep) -> bool:
        filters, columns = self._pair(w.shape, keep)
        nonzero = w.detach().ne(0).reshape(self.units(w.shape))
        used = int(nonzero.any(1).sum()), int(nonzero.any(0).sum())
        return used[0] <= filters and used[1] <= columns

    def _pair(self, shape: Sequence[int], keep: Keep) -> tuple[int, int]:
        """``keep`` if it is a pair of counts that a tensor of this shape can keep."""
        most = self.units(shape)
        if (
            not isinstance(keep, tuple | list)
            or [type(k) for k in keep] != [int, int]
            or not all(0 <= k <= n for k, n in zip(keep, most, strict=True))
        ):
            raise BudgetError(
                f"keep={keep} but there are {most[0]} filters and {most[1]} columns; "
                f"give a pair (filters, columns) with (0, 0) <= keep <= {most}"
            )
        return keep[0], keep[1]


def _enumerate(e: Tensor, k: int, c: int) -> tuple[Tensor, Tensor]:
    """The best ``k`` rows and ``c`` columns of the energies: every choice of rows is tried.

    Of equals the first in lexicographic order is taken.
    """
    best, best_rows = -1.0, torch.zeros(len(e), dtype=torch.bool, device=e.device)
    choices = combinations(range(len(e)), k)
    while chunk := list(islice(choices, _CHUNK)):
        rows = torch.zeros(len(chunk), len(e), dtype=e.dtype, device=e.device)
        rows.scatter_(1, torch.tensor(chunk, device=e.device), 1)
        retained = (rows @ e).topk(c, dim=1, sorted=False).values.sum(1)
        value, index = retained.max(0)
        if value > best:
            best, best_rows = float(value), rows[index].bool()
    return best_rows, largest(e[best_rows].sum(0), c)


def _alternate(e: Tensor, k: int, c: int) -> tuple[Tensor, Tensor]:
    """Rows, then columns, in turn until nothing changes; the better of the two starts."""
    by_rows = _climb(e, largest(e.sum(1), k), c)
    columns, rows = _climb(e.T, largest(e.sum(0), c), k)
    return max(by_rows, (rows, columns), key=lambda s: float(e[s[0]][:, s[1]].sum()))


def _climb(e: Tensor, rows: Tensor, c: int) -> tuple[Tensor, Tensor]:
    """From a choice of rows to a choice of both that neither side alone can improve."""
    k = int(rows.sum())
    while True:
        columns = largest(e[rows].sum(0), c)
        better = largest(e[:, columns].sum(1), k)
        # Ties move without gain, so ask for gain: it cannot go on for ever.
        if not e[better][:, columns].sum() > e[rows][:, columns].sum():
            return rows, columns
        rows = better
