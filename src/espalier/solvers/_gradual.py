"""Gradual magnitude pruning: cut a little, train on with the zeros held, cut again."""

from dataclasses import dataclass, replace

from espalier._ground.types import Weights
from espalier.solvers._solver import Approach, Conditions, Observed, Projector, Solver, State


@dataclass(frozen=True, kw_only=True)
class Gradual(Solver):
    """At every update the smallest weights of the moment go, and their zeros are held.

    ``opening=Cubic(...)`` is Zhu & Gupta's schedule (2017), ``Rounds(...)`` Han et al.'s iterative
    magnitude pruning (2015). No multipliers, no penalty: the baseline to beat.
    """

    name = "gradual"
    title = "Gradual magnitude"
    sentence = "Gradual magnitude pruning: cut a little, train on with the zeros held, cut again"
    takes = frozenset({"cadence", "opening", "continuation", "metric", "settle"})
    approach = Approach(
        sentence="Gradual pruning cuts the smallest weights of the moment at its updates; nothing leads them to "
        "zero before.",
        goes_along=True,
    )

    def init(self, w: Weights, constraint: Projector) -> State:
        """Nothing is held."""
        return State()

    def update(
        self, w: Weights, state: State, constraint: Projector, seen: Observed
    ) -> tuple[State, Conditions]:
        """Hold the support of Π_S(W); what is zero already scores zero and stays so."""
        return replace(state, held=constraint.support(w), k=state.k + 1), Conditions()
