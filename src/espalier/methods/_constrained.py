"""Constrained training: a solver pulls or holds, the budget opens and closes, the weights settle.

loss.backward()
pruning.add_gradients_()        # Λ + ρ(W − Z), fused, outside autograd
optimizer.step(); optimizer.zero_grad()
pruning.step(loss)              # counts; every ``cadence`` steps: conditions, Z, Λ, s
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Le
from torch import nn

from espalier.errors import RequestError, shown
from espalier.methods._method import Method, Setting
from espalier.metrics import Identity, Metric
from espalier.sets import Constraint
from espalier.solvers import SLR, Constant, Cubic, Schedule, Solver

if TYPE_CHECKING:
    from espalier.methods._pruning import Pruning


class Own(Enum):
    """Says that a setting is the solver's own."""

    DEFAULT = "the solver's own"


OWN = Own.DEFAULT

_GIVE = {
    "solver": "a solver, such as SLR()",
    "opening": "a schedule, such as Cubic()",
    "metric": "a metric, such as Fisher()",
    "settle": "a fraction of the run, or None for never",
}


@dataclass(frozen=True, kw_only=True)
class Constrained(Method):
    """A solver takes the weights onto the constraint while they train.

    Args:
        solver: ``SLR``, ``ADMM``, ``Penalty``, ``Gradual``, ``OneShot``, ``RigL`` …: the paper's dynamics.
        cadence: Optimiser steps between two updates; the strongest knob there is.
        opening: How the budget closes from dense to its target over the run.
        settle: Fraction of the run after which, once the budget has closed, W is projected and its zeros
            are held; ``None``: never.
        metric: The norm in which Π_S is the nearest point.
        decoupled: Pull W beside the optimiser's step, by lr · (Λ + ρ(W − Z)), as AdamW decouples weight
            decay, instead of through the gradient. The pull, the multiplier (kept as H⁻¹Λ) and the
            conditions are then all meant in the metric.

    ``opening`` and ``settle`` left out are the solver's own defaults, or else ``Cubic()`` and 0.45. They and
    the cadence are the best of ``docs/results.md``; the papers' own are once per epoch, ``Constant()``, ``None``.

    Raises:
        RequestError: A number outside its range.
    """

    name = "constrained"
    title = "Constrained training"
    sentence = "A solver takes the weights onto the constraint while they train"

    solver: Solver = field(default_factory=SLR)
    cadence: Annotated[int, Ge(1)] = 20
    opening: Schedule | None = None
    settle: Annotated[float, Ge(0), Le(1)] | Own | None = OWN
    metric: Metric = field(default_factory=Identity)
    decoupled: bool = False

    def __post_init__(self) -> None:
        kinds = {
            "solver": Solver | type,  # a recipe asks for what is usual with a class
            "opening": Schedule | None,
            "metric": Metric,
            "settle": float | int | Own | None,
        }
        for name, kind in kinds.items():
            if not isinstance(getattr(self, name), kind):
                raise RequestError(f"{name}={shown(getattr(self, name))}; give {_GIVE[name]}")
        own = self.solver.defaults
        if self.opening is None:
            object.__setattr__(self, "opening", own.get("opening", Cubic()))
        if self.settle is OWN:
            object.__setattr__(self, "settle", own.get("settle", 0.45))
        super().__post_init__()

    @property
    def label(self) -> str:
        """The solver's title."""
        return self.solver.title

    def attach(self, model: nn.Module, constraint: Constraint, setting: Setting) -> "Pruning":
        """A :class:`Pruning` handle with the stage's optimiser."""
        from espalier.methods._pruning import Pruning

        # A stage that knows no steps has none to make: nothing is to be said of them.
        return Pruning(
            model, constraint, self, setting.optimizer(model.parameters()), setting.steps,
            setting.probe, held=setting.held, advise=setting.steps is not None,
        )  # fmt: skip

    def slack(self, step: int, steps: int | None, density: float) -> float:
        """How far the budget is open after ``step`` of ``steps`` optimiser steps."""
        if steps is None:
            return 0.0
        assert self.opening is not None
        return self.opening.slack(min(1.0, step / steps), density)

    def settles_at(self, step: int, steps: int | None, density: float) -> bool:
        """Whether the weights settle once ``step`` of ``steps`` are done; never before the budget has closed."""
        if not isinstance(self.settle, float | int) or steps is None or step < self.settle * steps:
            return False
        return self.slack(step, steps, density) == 0.0

    def _settles_first(self, steps: int) -> int | None:
        """The first step that may settle, found by halving: a budget that has closed stays so."""
        low, high = 1, steps
        if not self.settles_at(high, steps, 0.5):
            return None
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.settles_at(middle, steps, 0.5) else (middle + 1, high)
        return low

    def advice(self, steps: int | None) -> tuple[str, ...]:
        """Where the steps are missing, or make too few updates.

        Example:
            >>> Constrained(cadence=20).advice(110)[0][:62]
            '110 steps at cadence 20 make 2 updates before the weights sett'
            >>> Constrained(cadence=2).advice(110)
            ()
        """
        if steps is None:
            lacking = []
            if not isinstance(self.opening, Constant):
                lacking.append("the whole budget holds from the first update on")
            if isinstance(self.settle, float | int):
                lacking.append("the weights never settle")
            if not lacking:
                return ()
            return (
                f"steps= is not given, so {' and '.join(lacking)}; give the optimiser steps to come, or "
                "opening=Constant() and settle=None where that is meant",
            )
        wanted = self.solver.updates_wanted
        if not wanted:
            return ()
        # The first step that may settle; at any density below 1 the budget closes at the same one.
        soon = self._settles_first(steps)
        settled = None if soon is None else -(-soon // self.cadence) * self.cadence
        if settled is not None and settled > steps:
            settled = None
        updates = steps // self.cadence if settled is None else settled // self.cadence - 1
        if updates >= wanted:
            return ()
        before = "" if settled is None else f" before the weights settle at step {settled}"
        shorter = steps // wanted if soon is None else (soon - 1) // wanted
        what = f"cadence={shorter}, or more steps" if shorter else "more steps"
        return (
            f"{steps} steps at cadence {self.cadence} make {updates} update{'s' * (updates != 1)}{before}, and "
            f"fewer than about {wanted} hardly move them; give {what}",
        )
