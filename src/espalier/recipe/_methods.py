"""Everything a recipe names by a ``method``: solvers, metrics, schedules, sets, optimisers."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, cast

from pydantic import AliasChoices, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from espalier import budgets
from espalier.methods import (
    OWN,
    Constrained,
    Estimator,
    GradualFreezing,
    HoldFromStart,
    KeepZeros,
    Method,
)
from espalier.metrics import Metric
from espalier.recipe._choice import Choice, Sections
from espalier.recipe._derive import derived, fields_of
from espalier.recipe._optimising import LearningRate, Optimiser
from espalier.recipe._part import Named
from espalier.runs import Procedure
from espalier.search import Allocating
from espalier.sets import Set
from espalier.solvers import RhoSchedule, Schedule, Solver

_EPOCHS = re.compile(r"epoch|([1-9][0-9]*) epochs")


def cadence_in_steps(cadence: int | str, steps_per_epoch: int) -> int:
    """The cadence in optimiser steps.

    >>> cadence_in_steps("10 epochs", 44), cadence_in_steps("epoch", 44), cadence_in_steps(20, 44)
    (440, 44, 20)
    """
    if isinstance(cadence, int):
        return cadence
    match = _EPOCHS.fullmatch(cadence)
    return int(match[1] or 1) * steps_per_epoch if match else 1


def _cadence(value: Any) -> Any:
    count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if count or (isinstance(value, str) and _EPOCHS.fullmatch(value)):
        return value
    raise PydanticCustomError(
        "cadence",
        "{value} is neither a count of steps >= 1 nor 'epoch' nor '10 epochs'",
        {"value": repr(value)},
    )


Cadence = Annotated[
    int | str,
    BeforeValidator(_cadence),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "pattern": f"^({_EPOCHS.pattern})$"},
            ]
        }
    ),
]


class SolverSection(Named):
    """A solver with what :class:`~espalier.methods.Constrained` says around it, side by side.

    ``continuation`` is the recipes' older word for ``opening``, by which settings are kept in run folders.
    """

    @classmethod
    def more_fields(cls, target: type[Any], types: Mapping[Any, Any]) -> dict[str, Any]:
        """The settings around a solver, with the solver's own defaults."""
        # The class itself will do for a solver: only its ``defaults`` are looked at.
        usual = Constrained(solver=cast(Solver, target))
        defaults = {name: getattr(usual, name) for name in ("opening", "settle")}
        around = fields_of(
            Constrained, types, without=["solver"], defaults={**defaults, **target.defaults}
        )
        kind, opening = around.pop("opening")
        words = AliasChoices("continuation", "opening")
        renamed = Field(opening.default, description=opening.description, validation_alias=words)
        (first, cadence), *others = around.items()
        return {first: cadence, "continuation": (kind, renamed), **dict(others)}

    def build(self, **replaced: Any) -> Constrained:
        """The solver in its :class:`~espalier.methods.Constrained`."""
        if "opening" in replaced:
            replaced["continuation"] = replaced.pop("opening")
        values = self.built(**replaced)
        around = set(type(self).more_fields(self.target, {}))
        own = {name: value for name, value in values.items() if name not in around}
        settings = {name: value for name, value in values.items() if name in around}
        opening = settings.pop("continuation")
        return Constrained(solver=self.target(**own), opening=opening, **settings)


def _family(word: str, base: type[Any], types: Mapping[Any, Any] | None = None) -> Sections:
    return Sections(word, base, derive=partial(derived, types=types))


METRICS = _family("metric", Metric)
CONTINUATIONS = _family("continuation", Schedule)
RHO_SCHEDULES = _family("rho schedule", RhoSchedule)
ESTIMATORS = _family("estimator", Estimator)
SETS = _family("set", Set)
OPTIMISERS = _family("optimiser", Optimiser)
SCHEDULES = _family("schedule", LearningRate)

_TYPES: Mapping[Any, Any] = {
    "cadence": Cadence,
    "opening": Annotated[Named, Choice(CONTINUATIONS)],
    Metric: Annotated[Named, Choice(METRICS)],
    Schedule: Annotated[Named, Choice(CONTINUATIONS)],
    Estimator: Annotated[Named, Choice(ESTIMATORS)],
    RhoSchedule: Annotated[Named, Choice(RHO_SCHEDULES)],
    type(OWN): None,  # what is left out in a recipe
}


def _method(name: str, target: type[Any]) -> type[Named]:
    base = SolverSection if issubclass(target, Solver) else Named
    return derived(name, target, _TYPES, base=base)


_ELSEWHERE = (Constrained, GradualFreezing, HoldFromStart, KeepZeros)
"""Methods that recipes say in other words: a solver's name, ``quantise.freeze``, a stage without a method."""

SOLVERS = Sections("method", Solver, Method, Procedure, derive=_method, without=_ELSEWHERE)
"""Every solver, every method that is more than a solver, and every procedure of several stages."""

RULES: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "uniform": budgets.uniform,
        "erk": budgets.erk,
        "global": budgets.global_magnitude,
        "shared": budgets.shared,
    }
)
"""Budget rules without settings, by the name a recipe gives them."""

ALLOCATIONS = _family("allocation", Allocating)
"""Budgets that are searched for, or that move."""

AllocationChoice = Annotated[str | Named, Choice(ALLOCATIONS, tuple(RULES))]
SolverChoice = Annotated[Named, Choice(SOLVERS)]
SetChoice = Annotated[Named, Choice(SETS)]
MetricChoice = Annotated[Named, Choice(METRICS)]
OptimiserChoice = Annotated[Named, Choice(OPTIMISERS)]
ScheduleChoice = Annotated[Named, Choice(SCHEDULES)]


def make_method(section: Named, steps_per_epoch: int) -> Method | Procedure:
    """The method that a section names; a cadence in epochs becomes one in steps."""
    cadence = getattr(section, "cadence", None)
    given = {} if cadence is None else {"cadence": cadence_in_steps(cadence, steps_per_epoch)}
    method: Method | Procedure = section.build(**given)
    return method
