"""One-shot pruning: train as ever, cut once at the end."""

from dataclasses import dataclass, field, replace

from espalier._ground.types import Weights
from espalier.solvers._schedules import Constant, Schedule
from espalier.solvers._solver import Conditions, Constraint, Solver, State


@dataclass(frozen=True, kw_only=True)
class OneShot(Solver):
    """No pull and no held zeros: the weights of dense training, hard-pruned when it is over.

    Per tensor or global is the plan's choice (``allocation=budgets.shared``), not the solver's.
    Source: Han et al. 2015; Liu et al. 2019, "Rethinking the Value of Network Pruning".
    """

    continuation: Schedule = field(default_factory=Constant)
    settle: float | None = None

    def init(self, w: Weights, constraint: Constraint) -> State:
        """Nothing."""
        return State()

    def update(
        self, w: Weights, state: State, constraint: Constraint, loss: float
    ) -> tuple[State, Conditions]:
        """Nothing but the count."""
        return replace(state, k=state.k + 1), Conditions()
