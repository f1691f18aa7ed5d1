"""SLR as its authors' released code runs it, for comparison with the published numbers only.

Read in ``Zhoushanglin100/SLR-ADMM-cifar10``. It differs from the paper, and so from :class:`SLR`, in this:

1. "Previous weights" are the live parameters, so W^{k−1} = W^k wherever they are used: condition (3) compares
   the two interval losses alone, the ratio of eq. (5) is 1, and eq. (10) has ‖W^k − Z^{k−1}‖ above.
2. Z⁰ = 0 for the multiplier, so the first update adds s⁰ W.
3. Condition (8) carries the losses of two intervals, though f(W^k) is on both of its sides.
4. The first condition is always met, and k grows with every *accepted half-step*.
5. The multiplier stays on the autograd graph, so the pull is multiplied by 1 + Σ sⱼ/ρ over the accepted
   half-steps: a penalty that grows unnoticed.

Legend as in ``slr.py``.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from espalier._ground.types import Weights
from espalier.solvers._algebra import ascend, difference, penalty_terms, size
from espalier.solvers._schedules import Constant
from espalier.solvers._slr import SLR, SLRState, follow
from espalier.solvers._solver import Conditions, Observed, Projector


@dataclass(frozen=True, kw_only=True)
class SLRReleased(SLR):
    """The five departures above; hyper-parameters as in :class:`SLR`, the whole budget from the start."""

    name = "slr_released"
    title = "SLR as released"
    sentence = "SLR as its authors' code runs it, for comparison with the published numbers only"
    defaults: ClassVar[dict[str, Any]] = {"opening": Constant(), "settle": None}

    def init(self, w: Weights, constraint: Projector) -> SLRState:
        """Z⁰ = 0 (departure 2): until the first update W is pulled towards zero."""
        zero = {name: 0.0 * value for name, value in constraint.project(w).items()}
        return SLRState(z=zero, multiplier=dict(zero), rho=self.rho, step=self.step, k=1)

    def update(
        self, w: Weights, state: SLRState, constraint: Projector, seen: Observed
    ) -> tuple[SLRState, Conditions]:
        """One pass of the released update."""
        rho, multiplier, step, k = state.rho, state.multiplier, state.step, state.k
        asked = seen.loss is not None and (k == 1 or state.loss is not None)
        loss, loss_old = (seen.loss or 0.0, state.loss or 0.0) if asked else (0.0, 0.0)
        scale = state.pull_scale

        g_old = difference(w, state.z)
        first = k == 1 or not asked or loss < loss_old
        if first:
            step *= self.alpha(k)
            multiplier = ascend(multiplier, step, g_old)
            k, scale = k + 1, scale + step / rho

        z = constraint.project(ascend(w, 1.0 / rho, multiplier))

        g = difference(w, z)
        with_new = loss + penalty_terms(multiplier, g, rho)
        second = with_new < loss_old + penalty_terms(multiplier, g_old, rho)
        if second:
            step = follow(self.alpha(k), step, size(g_old), size(g))
            multiplier = ascend(multiplier, step, g)
            k, scale = k + 1, scale + step / rho

        state = replace(
            state,
            z=z,
            multiplier=multiplier,
            step=step,
            k=k,
            pull_scale=scale,
            loss=seen.loss,
        )
        return state, Conditions(first=first if asked else None, second=second)
