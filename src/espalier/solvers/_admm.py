r"""Alternating direction method of multipliers.

Zhang et al., "A Systematic DNN Weight Pruning Framework using Alternating Direction Method of Multipliers",
ECCV 2018. Legend: U of the paper is the scaled multiplier Λ/ρ.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

from annotated_types import Gt

from espalier._ground.types import Weights
from espalier.solvers._algebra import ascend, difference
from espalier.solvers._rho import ConstantRho, RhoSchedule
from espalier.solvers._solver import Conditions, Observed, Projector, Pulling, Solver


@dataclass(frozen=True, kw_only=True)
class ADMM(Solver):
    r"""Z ← Π_S(W + U), U ← U + W − Z, with U = Λ/ρ.

    Args:
        rho: Penalty coefficient ρ > 0 (of the first stage, if it grows).
        rho_schedule: Constant, geometric or staged ρ.
    """

    name = "admm"
    title = "ADMM"
    sentence = (
        "Alternating direction method of multipliers: one multiplier step per update (ECCV 2018)"
    )
    published_cadence = "10 epochs"
    state: ClassVar[type[Pulling]] = Pulling
    has_multipliers: ClassVar[bool] = True

    rho: Annotated[float, Gt(0)] = 0.1
    rho_schedule: RhoSchedule = field(default_factory=ConstantRho)

    def init(self, w: Weights, constraint: Projector) -> Pulling:
        """Z⁰ = Π_S(W⁰), U⁰ = 0."""
        z = constraint.project(w)
        return Pulling(
            z=z, multiplier={n: 0.0 * z[n].float() for n in z}, rho=self.rho, step=self.rho
        )

    def update(
        self, w: Weights, state: Pulling, constraint: Projector, seen: Observed
    ) -> tuple[Pulling, Conditions]:
        """Z = Π_S(W + Λ/ρ); Λ ← Λ + ρ(W − Z)."""
        rho = state.rho
        z = constraint.project(ascend(w, 1.0 / rho, state.multiplier))
        multiplier = ascend(state.multiplier, rho, difference(w, z))
        state = replace(state, z=z, multiplier=multiplier, step=rho, k=state.k + 1)
        return self.rho_schedule.after(state, w, constraint), Conditions()
