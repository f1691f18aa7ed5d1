r"""Surrogate Lagrangian Relaxation.

Gurevin et al., "Enabling Retrain-free Deep Neural Network Pruning using Surrogate Lagrangian Relaxation",
IJCAI 2021 (arXiv:2012.10079); journal version arXiv:2304.04120.

Legend (paper → here): W ``w``, Z ``z``, Λ ``multiplier``, ρ ``rho``, s ``step``, α ``alpha``, M ``M``, r ``r``.
``g`` is a violation: W^k − Z^{k−1} in the first half-step, W^k − Z^k in the second.

Where we differ from the print, and why: ``docs/method/slr.md``. In short, the step follows the violations in
the order in which they are used, s_new ‖g_new‖ = α s_old ‖g_old‖, and starts at the first nonzero one.
"""

import math
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from annotated_types import Gt, Lt

from espalier._ground.types import Weights
from espalier.solvers._algebra import ascend, difference, penalty_terms, size
from espalier.solvers._solver import Conditions, Observed, Projector, Pulling, Solver


@dataclass(frozen=True, kw_only=True)
class SLRState(Pulling):
    """What Algorithm 1 remembers of W^{k−1}; ``None`` before the first update.

    Attributes:
        loss: f(W^{k−1}).
        penalty_terms: ⟨Λ, g⟩ + ρ/2 ‖g‖² of then.
        norm: ‖g‖ of the last violation that was used.
    """

    loss: float | None = None
    penalty_terms: float = 0.0
    norm: float = 0.0


@dataclass(frozen=True, kw_only=True)
class SLR(Solver):
    r"""Algorithm 1: two multiplier half-steps per update, each taken only if its surrogate condition holds.

    .. math::
        L_\rho(W, Z, \Lambda) = f(W) + \langle\Lambda, W - Z\rangle + \tfrac{\rho}{2}\|W - Z\|_F^2

    Args:
        rho: Penalty coefficient ρ > 0.
        step: First step size s⁰ > 0.
        M: M > 1 of eq. (11); the larger, the slower the steps decay.
        r: r ∈ (0, 1) of eq. (11).
        printed_steps: Eq. (10) as printed, with ‖W^{k−1} − Z^{k−1}‖ in the second half-step as well.
            Unstable at short cadences; for fidelity.
    """

    name = "slr"
    title = "SLR"
    sentence = (
        "Surrogate Lagrangian Relaxation: two guarded multiplier steps per update (IJCAI 2021)"
    )
    published_cadence = "epoch"
    state: ClassVar[type[SLRState]] = SLRState
    has_multipliers: ClassVar[bool] = True

    rho: Annotated[float, Gt(0)] = 0.1
    step: Annotated[float, Gt(0)] = 0.01
    M: Annotated[float, Gt(1)] = 300.0
    r: Annotated[float, Gt(0), Lt(1)] = 0.1
    printed_steps: bool = False

    def alpha(self, k: int) -> float:
        """Eq. (11): α^k = 1 − 1 / (M · k^(1 − 1/k^r)).

        >>> round(SLR(M=300, r=0.1).alpha(1), 5), round(SLR(M=300, r=0.1).alpha(100), 5)
        (0.99667, 0.99939)
        """
        exponent = 1.0 - math.pow(k, -self.r)
        return 1.0 - 1.0 / (self.M * math.pow(k, exponent))

    def init(self, w: Weights, constraint: Projector) -> SLRState:
        """Z⁰ = Π_S(W⁰), Λ⁰ = 0, s⁰ given."""
        z = constraint.project(w)
        multiplier = {name: 0.0 * z[name].float() for name in z}
        return SLRState(z=z, multiplier=multiplier, rho=self.rho, step=self.step)

    def update(
        self, w: Weights, state: SLRState, constraint: Projector, seen: Observed
    ) -> tuple[SLRState, Conditions]:
        """One iteration k of Algorithm 1, after the training of W^k."""
        rho, multiplier, step = state.rho, state.multiplier, state.step
        k = state.k + 1
        alpha = self.alpha(k)
        loss = seen.loss

        # First half-step: condition (3), then (4) with the step of (5). Where f is not known the condition is not
        # asked, and the step is taken, as ADMM takes every one.
        g = difference(w, state.z)
        first = True
        if loss is not None and state.loss is not None:
            lagrangian = loss + penalty_terms(multiplier, g, rho, constraint.metric)
            first = lagrangian < state.loss + state.penalty_terms
        norm_used = state.norm
        norm_printed = norm_used
        if first:
            norm = size(g)
            step = follow(alpha, step, norm_used, norm)
            multiplier = ascend(multiplier, step, g)
            norm_used = norm or norm_used

        # Eq. (7): the second subproblem, solved exactly.
        z = constraint.project(ascend(w, 1.0 / rho, multiplier))

        # Second half-step: condition (8), in which f(W^k) cancels, then (9) with the step of (10).
        before = constraint.project(state.z) if constraint.moved else state.z
        g = difference(w, z)
        with_old = penalty_terms(multiplier, difference(w, before), rho, constraint.metric)
        with_new = penalty_terms(multiplier, g, rho, constraint.metric)
        second = with_new < with_old
        if second:
            norm = size(g)
            step = follow(alpha, step, norm_printed if self.printed_steps else norm_used, norm)
            multiplier = ascend(multiplier, step, g)
            norm_used = norm or norm_used

        state = replace(
            state, z=z, multiplier=multiplier, step=step, k=k, loss=loss,
            penalty_terms=penalty_terms(multiplier, g, rho, constraint.metric),
            norm=size(g) if self.printed_steps else norm_used,
        )  # fmt: skip
        return state, Conditions(first=None if loss is None else first, second=second)


def follow(alpha: float, step: float, norm_old: float, norm_new: float) -> float:
    """Eqs. (5), (10): s_new = α s_old ‖g_old‖ / ‖g_new‖; unchanged until both norms are nonzero."""
    return alpha * step * norm_old / norm_new if norm_old > 0 and norm_new > 0 else step
