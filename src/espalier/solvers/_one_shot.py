"""One-shot pruning: train as ever, cut once at the end."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from espalier._ground.types import Weights
from espalier.solvers._schedules import Constant
from espalier.solvers._solver import Approach, Conditions, Observed, Projector, Solver, State


@dataclass(frozen=True, kw_only=True)
class OneShot(Solver):
    """No pull and no held zeros: the weights of dense training, hard-pruned when it is over.

    Per tensor or global is the plan's choice (``allocation=budgets.shared``), not the solver's.
    Source: Han et al. 2015; Liu et al. 2019, "Rethinking the Value of Network Pruning".
    """

    name = "oneshot"
    title = "One-shot magnitude"
    sentence = "One-shot magnitude pruning: train as ever, cut once at the end"
    defaults: ClassVar[dict[str, Any]] = {"opening": Constant(), "settle": None}
    takes = frozenset({"cadence", "metric"})  # it cuts at the end, whatever the budget did before
    updates_wanted = 0  # its updates do nothing
    approach = Approach(
        sentence="One-shot pruning trains as ever until its cut; nothing leads the weights there before."
    )

    def init(self, w: Weights, constraint: Projector) -> State:
        """Nothing."""
        return State()

    def update(
        self, w: Weights, state: State, constraint: Projector, seen: Observed
    ) -> tuple[State, Conditions]:
        """Nothing but the count."""
        return replace(state, k=state.k + 1), Conditions()
