r"""Equally spaced levels without zero: the values a quantised weight may have.

Legend (paper → here): M levels, n = log₂ M ``bits``, N = M/2 levels a side ``half``, the distance q ``step``;
kᵢ ∈ {1, …, N} is the level of weight i, aᵢ = |wᵢ|, hᵢ the diagonal of the metric.

The best distance is found *exactly*. With the levels k given, E is quadratic in q and least at q = B/C:

.. math:: \min_q \min_k \sum_i h_i (a_i - q k_i)^2 = \min_k \Bigl(A - \frac{B(k)^2}{C(k)}\Bigr), \qquad
          A = \sum h_i a_i^2,\; B = \sum h_i a_i k_i,\; C = \sum h_i k_i^2

and the best k for a q are the nearest levels. As q falls from ∞, weight i steps from level n to n + 1 at the
breakpoint :math:`q = a_i / (n + \tfrac12)`: sorting the breakpoints visits every k that is nearest for some q,
the best among them. B and C are running sums, so the whole costs one sort of #weights · (N − 1) numbers.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from espalier.errors import NonFiniteError, RequestError, ShapeError

_MOST_BITS = 16
_EXACT = 1 << 22
"""Breakpoints up to which all are visited; a second of sorting."""
_GRID = 4096
_CELLS = 1 << 20
_ROUNDS = 20


@dataclass(frozen=True)
class Levels:
    r"""Nonzeros on M = 2^bits levels, equally spaced, symmetric and without zero.

    .. math:: S = \Bigl\{z : \exists q > 0\; \forall i:\; z_i = 0 \text{ or }
              z_i \in \{\pm q, \pm 2q, \dots, \pm \tfrac{M}{2} q\}\Bigr\}

    Zero is no level: it stands for a pruned weight, so no projection prunes or revives one. One bit is
    ±q (binary weights). Unlike a :class:`~espalier.sets.Set` it has no ``keep``: it says which values
    the survivors have, not how many there are.

    Args:
        bits: log₂ M, a count from 1 to 16.

    Raises:
        RequestError: Another number of bits.

    Source: Ren et al. 2019, *ADMM-NN*, §4 (equal-distance levels; their q by binary search, ours exact
    and over the nonzeros alone).

    Example:
        >>> Levels(bits=2).project(torch.tensor([0.9, 0.0, -2.1, 5.0]))
        tensor([ 2.1667,  0.0000, -2.1667,  4.3333])
    """

    bits: int

    def __post_init__(self) -> None:
        if isinstance(self.bits, bool) or not 1 <= self.bits <= _MOST_BITS:
            raise RequestError(f"bits={self.bits}; give a count of bits from 1 to {_MOST_BITS}")

    @property
    def half(self) -> int:
        """N = M/2: levels on either side of zero."""
        return 1 << (self.bits - 1)

    def project(
        self, w: Tensor, metric: Tensor | None = None, support: Tensor | None = None
    ) -> Tensor:
        r"""Nearest point with these zeros: each weight of the support on its nearest level.

        .. math:: \arg\min_{z, q} \sum_i h_i (z_i - w_i)^2

        Args:
            w: Weights, any floating dtype and device. Not modified.
            metric: The diagonal h >= 0, shape of ``w``; None for the Euclidean norm. It moves q alone.
            support: Boolean mask of the weights that are not pruned; None: the nonzeros of ``w``. A
                weight of the support that is zero goes to +q.

        Returns:
            A new tensor off the graph: shape, dtype and device of ``w``. Its nonzeros are float products
            k · q of whole k with one q of that dtype, so (k, q) stores them to the bit.

        Raises:
            NonFiniteError: NaN or infinity in ``w``.
            ShapeError: A metric or support of another shape.
            RequestError: A negative entry in ``metric``.
        """
        on = _support(w, support)
        return self.nearest(w, self.step(w, metric, on), on)

    def nearest(self, w: Tensor, step: float, support: Tensor | None = None) -> Tensor:
        """Each weight of the support on the nearest of the levels ``step`` apart; halves go down.

        Arguments, errors and result are those of :meth:`project`.

        Example:
            >>> Levels(bits=2).nearest(torch.tensor([0.4, -1.4, 9.0]), step=1.0)
            tensor([ 1., -1.,  2.])
        """
        on = _support(w, support)
        x = w.detach()
        sign = torch.where(x < 0, -1.0, 1.0).to(x.dtype)
        k = _level(x.abs().double(), step, self.half).to(x.dtype)
        return torch.where(on, sign * k * step, 0)

    def step(self, w: Tensor, metric: Tensor | None = None, support: Tensor | None = None) -> float:
        """The distance q of the nearest point, as a number of ``w``'s dtype; 0.0 on an empty support.

        Exact up to 2^22 breakpoints; beyond, the best of a grid whose neighbours differ by a fraction
        of a percent, refined by alternating between levels and distance until neither moves.
        """
        on = _support(w, support)
        a = w.detach()[on].abs().double()
        if not bool(a.isfinite().all()):
            raise NonFiniteError("the weights hold NaN or infinity; no level is nearest")
        if metric is not None and metric.shape != w.shape:
            raise ShapeError(f"metric of shape {tuple(metric.shape)} for weights {tuple(w.shape)}")
        h = torch.ones_like(a) if metric is None else metric[on].to(a)
        if a.numel() and float(h.min()) < 0:
            raise RequestError(f"the metric holds {float(h.min()):g}; its entries must be >= 0")
        peak = float(a.max()) if a.numel() else 0.0
        if peak == 0.0:
            return 0.0
        if not bool(h.any()):  # every point is as near as any other: take the plain norm
            h = torch.ones_like(a)
        few = a.numel() * (self.half - 1) <= _EXACT
        q = (exact_step if few else alternating_step)(a / peak, h / h.max(), self.half) * peak
        rounded = torch.tensor(q, dtype=w.dtype)
        return float(rounded) or float(torch.finfo(w.dtype).tiny)

    def error(self, w: Tensor, step: float, metric: Tensor | None = None) -> float:
        """E(q) = Σ hᵢ |wᵢ − f_q(wᵢ)|² over the nonzeros, in float64."""
        gap = (w.detach() - self.nearest(w, step)).double().square()
        return float((gap if metric is None else gap * metric).sum())

    def codes(self, w: Tensor) -> tuple[Tensor, float]:
        """A point of the set as whole levels and their distance: w = k · q to the bit.

        Returns:
            k, int32 of the shape of ``w``, 0 where ``w`` is zero, else ±1 … ±N; and q.

        Raises:
            RequestError: ``w`` is not on levels; project it first.

        Example:
            >>> Levels(bits=2).codes(torch.tensor([0.5, 0.0, -1.0]))
            (tensor([ 1,  0, -2], dtype=torch.int32), 0.5)
        """
        x = w.detach()
        values = torch.unique(x.abs())
        values = values[values != 0]
        if not len(values):
            return x.to(torch.int32), 0.0
        for k in range(1, self.half + 1) if len(values) <= self.half else ():
            quotient = values[0] / k  # the smallest nonzero is on level k, but which?
            for q in (quotient, *_neighbours(quotient)):
                if torch.equal(self.nearest(values, float(q)), values):
                    return torch.round(x.double() / float(q)).to(torch.int32), float(q)
        raise RequestError(
            f"the nonzeros are not on {2 * self.half} equally spaced levels; project them first"
        )

    def contains(self, w: Tensor) -> bool:
        """Whether the nonzeros of ``w`` are on levels, to the bit."""
        try:
            self.codes(w)
        except RequestError:
            return False
        return True


def exact_step(a: Tensor, h: Tensor, half: int) -> float:
    """The best q for a = |w| >= 0 and h >= 0, both float64 of shape (n,), by visiting every breakpoint."""
    n = torch.arange(1, half, dtype=a.dtype, device=a.device)  # the step from level n to n + 1
    at = (a[:, None] / (n + 0.5)).flatten()
    order = at.argsort(descending=True, stable=True)
    start = h.dot(a)[None], h.sum()[None]
    moment = torch.cat([start[0], (h * a)[:, None].expand(-1, half - 1).flatten()[order]]).cumsum(0)
    square = torch.cat([start[1], (h[:, None] * (2 * n + 1)).flatten()[order]]).cumsum(0)
    best = int((moment.square() / square).argmax())
    return float(moment[best] / square[best])


def alternating_step(a: Tensor, h: Tensor, half: int) -> float:
    r"""The same to a fraction of a percent for many weights: a grid of q, then Lloyd's alternation.

    The best q lies in :math:`[\bar a / N, \max a]`, a̅ being the mean in the weights h: B/C is at least
    Σha/(NΣh), since k ≤ N and k does not fall as a grows, and at most Σhak/Σhk, since k ≥ 1.
    """
    a, order = a.sort()
    h = h[order]
    zero = a.new_zeros(1)
    mass, moment = torch.cat([zero, h.cumsum(0)]), torch.cat([zero, (h * a).cumsum(0)])
    edges = torch.arange(1, half, dtype=a.dtype, device=a.device) + 0.5

    def sums(q: Tensor) -> tuple[Tensor, Tensor]:
        """B and C for every q: what lies above the edge from n to n + 1 counts once more."""
        above = torch.searchsorted(a, q[:, None] * edges, right=True)
        b = moment[-1] + (moment[-1] - moment[above]).sum(1)
        c = mass[-1] + ((2 * edges) * (mass[-1] - mass[above])).sum(1)
        return b, c

    grid = max(64, min(_GRID, _CELLS // half))
    low, high = float(moment[-1] / mass[-1]) / half, float(a[-1])
    q = low * (high / low) ** torch.linspace(0, 1, grid, dtype=a.dtype, device=a.device)
    for _ in range(_ROUNDS):
        b, c = sums(q)
        q = b / c
    b, c = sums(q)
    best = int((b.square() / c).argmax())
    return float(b[best] / c[best])


def _level(a: Tensor, step: float, half: int) -> Tensor:
    """The nearest k ∈ {1, …, N}; a half goes to the lower."""
    if step == 0.0:
        return torch.ones_like(a)
    return torch.ceil(a / step - 0.5).clamp_(1, half)


def _support(w: Tensor, support: Tensor | None) -> Tensor:
    if support is None:
        return w.detach() != 0
    if support.shape != w.shape:
        raise ShapeError(f"support of shape {tuple(support.shape)} for weights {tuple(w.shape)}")
    return support


def _neighbours(x: Tensor) -> tuple[Tensor, Tensor]:
    """The next numbers of its dtype: k · q is rounded, so its quotient by k may be off by one."""
    return torch.nextafter(x, x.new_tensor(0.0)), torch.nextafter(x, x.new_tensor(torch.inf))
