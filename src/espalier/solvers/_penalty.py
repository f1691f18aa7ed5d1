"""The quadratic penalty method: ADMM and SLR with their multipliers off."""

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

from annotated_types import Gt

from espalier._ground.types import Weights
from espalier.solvers._rho import ConstantRho, RhoSchedule
from espalier.solvers._solver import Conditions, Observed, Projector, Pulling, Solver


@dataclass(frozen=True, kw_only=True)
class Penalty(Solver):
    r"""W is trained on f(W) + ρ/2 ‖W − Z‖², Z = Π_S(W) taken anew at every update.

    Source: the quadratic penalty method (Nocedal & Wright 2006, §17.1); the control that says what the
    multipliers of SLR and ADMM are worth.

    Args:
        rho: Penalty coefficient ρ > 0.
        rho_schedule: Constant, geometric or staged ρ.
    """

    name = "penalty"
    title = "Penalty"
    sentence = "ADMM without multipliers: a quadratic pull towards the nearest point of the set"
    state: ClassVar[type[Pulling]] = Pulling

    rho: Annotated[float, Gt(0)] = 0.1
    rho_schedule: RhoSchedule = field(default_factory=ConstantRho)

    def init(self, w: Weights, constraint: Projector) -> Pulling:
        """Z⁰ = Π_S(W⁰)."""
        z = constraint.project(w)
        return Pulling(z=z, multiplier={n: 0.0 * z[n].float() for n in z}, rho=self.rho)

    def update(
        self, w: Weights, state: Pulling, constraint: Projector, seen: Observed
    ) -> tuple[Pulling, Conditions]:
        """Z = Π_S(W)."""
        state = replace(state, z=constraint.project(w), k=state.k + 1)
        return self.rho_schedule.after(state, w, constraint), Conditions()
