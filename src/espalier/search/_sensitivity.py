r"""Sensitivity: what each layer alone bears, and the budget with which all lose the same.

Legend: :math:`\ell_t(k)` what the goal loses when group t alone keeps k of its :math:`n_t` units;
:math:`k_t(\varepsilon)` the fewest with which it loses at most ε.

Han et al. 2015 (arXiv:1506.02626), §5 and figure 6, for the curves; equal loss as in
:class:`espalier.runs.QualityThreshold`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from espalier._ground.searching import Stepwise, bisection, searched
from espalier.planning import Allotment
from espalier.search._allocating import Searching, Steps

Curve = Sequence[tuple[int, float]]
"""Keeps in falling order, each with the loss there; the first is dense and loses nothing."""


@dataclass(frozen=True, kw_only=True)
class Sensitivity(Searching):
    r"""Keeps with which every layer, cut alone, loses the same.

    .. math:: k_t(\varepsilon) = \min\{k : \ell_t(k') \le \varepsilon \;\forall k' \ge k\}, \qquad
              \min \varepsilon \quad\text{s.t.}\quad c(k(\varepsilon)) \le C

    Args:
        points: Keeps at which each layer's curve is measured, in equal ratios from all units to the least.

    Source: Han et al. 2015 (arXiv:1506.02626), §5.
    """

    name = "sensitivity"

    points: Annotated[int, Ge(1)] = 10

    def steps(self, of: Allotment, seed: int) -> Steps:
        """The dense model, then every layer alone at every point; the keeps of equal loss."""
        whole = yield {}
        curves: list[list[tuple[int, float]]] = []
        for name, one in zip(of.names, of.allowed, strict=True):
            curve = [(one.size, 0.0)]
            for j in range(1, self.points + 1):
                k = max(one.least, one.nearest((one.least / one.size) ** (j / self.points)))
                if k < curve[-1][0]:
                    score = yield {name: k}
                    curve.append((k, whole - score))
            curves.append(curve)
        return equal_loss(of, [rising(curve) for curve in finite(curves)])


def finite(curves: Sequence[Curve]) -> list[Curve]:
    """With the largest finite loss of all in place of what is none: a cut that broke the model."""
    worst = max(loss for curve in curves for _, loss in curve if math.isfinite(loss))
    return [[(k, x if math.isfinite(x) else worst) for k, x in curve] for curve in curves]


def rising(curve: Curve) -> list[tuple[int, float]]:
    """The curve with no loss below that of a larger keep.

    >>> rising([(8, 0.0), (4, 0.3), (2, 0.1), (1, 0.5)])
    [(8, 0.0), (4, 0.3), (2, 0.3), (1, 0.5)]
    """
    found: list[tuple[int, float]] = []
    for k, loss in curve:
        found.append((k, max([loss, 0.0, *(before for _, before in found[-1:])])))
    return found


def fewest(curve: Curve, loss: float) -> float:
    """k(ε): the smallest keep, between the points in proportion of loss and log k, that loses at most ε.

    >>> fewest([(8, 0.0), (4, 0.0), (1, 0.5)], 0.0), fewest([(8, 0.0), (4, 0.0), (1, 0.5)], 0.25)
    (4.0, 2.0)
    """
    k, below = float(curve[0][0]), curve[0][1]
    for narrow, above in curve[1:]:
        if above > loss:
            return float(k * (narrow / k) ** ((loss - below) / (above - below)))
        k, below = float(narrow), above
    return k


def equal_loss(of: Allotment, curves: Sequence[Curve]) -> list[int]:
    """The keeps of the smallest loss, the same for all, that the budget allows; what it leaves is filled up."""

    def at(loss: float) -> list[int]:
        # Rounded up: with fewer, more than this would be lost.
        steps = zip(curves, of.allowed, strict=True)
        wanted = [
            (math.ceil(fewest(c, loss) / one.step - 1e-9) * one.step, one) for c, one in steps
        ]
        return [min(one.size, max(one.least, k)) for k, one in wanted]

    high = max(curve[-1][1] for curve in curves)
    if of.fits(at(0.0)):
        return of.filled(at(0.0))
    # From above: the largest share of what is given up with which the budget still holds.
    search = Stepwise(bisection(0.0, 1.0, until=1e-12))
    searched(search, lambda part: 0.0 if of.fits(at(high * (1.0 - part))) else -1.0)
    return of.filled(at(high * (1.0 - (search.answer or 0.0))))
