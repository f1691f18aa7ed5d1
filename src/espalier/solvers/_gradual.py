"""Gradual magnitude pruning: cut a little, train on with the zeros held, cut again."""

from dataclasses import dataclass, replace

from espalier._ground.types import Weights
from espalier.solvers._solver import Conditions, Constraint, Solver, State


@dataclass(frozen=True, kw_only=True)
class Gradual(Solver):
    """At every update the smallest weights of the moment go, and their zeros are held.

    ``continuation=Cubic(...)`` is Zhu & Gupta's schedule (2017), ``Rounds(...)`` Han et al.'s iterative
    magnitude pruning (2015). No multipliers, no penalty: the baseline to beat.
    """

    def init(self, w: Weights, constraint: Constraint) -> State:
        """Nothing is held."""
        return State()

    def update(
        self, w: Weights, state: State, constraint: Constraint, loss: float
    ) -> tuple[State, Conditions]:
        """Hold the support of Π_S(W); what is zero already scores zero and stays so."""
        return replace(state, held=constraint.support(w), k=state.k + 1), Conditions()
