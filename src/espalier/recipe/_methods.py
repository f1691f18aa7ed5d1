"""Everything a recipe names by a ``method``: solvers, metrics, schedules, sets, optimisers."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any

from annotated_types import Ge
from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from espalier import metrics, sets, solvers
from espalier.recipe import _optimising as optimising
from espalier.recipe._derive import derived
from espalier.recipe._part import Choice, Named

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


def _family(
    members: Mapping[str, type[Any]], types: Mapping[Any, Any]
) -> Mapping[str, type[Named]]:
    return MappingProxyType(
        {name: derived(name, target, types) for name, target in members.items()}
    )


METRICS = _family(
    {
        "identity": metrics.Identity,
        "adam": metrics.AdamMoment,
        "fisher": metrics.Fisher,
        "activations": metrics.Activations,
    },
    {},
)
CONTINUATIONS = _family(
    {"constant": solvers.Constant, "cubic": solvers.Cubic, "rounds": solvers.Rounds}, {}
)
RHO_SCHEDULES = _family(
    {
        "constant": solvers.ConstantRho,
        "geometric": solvers.GeometricRho,
        "staged": solvers.StagedRho,
    },
    {},
)
SOLVERS = _family(
    {
        "slr": solvers.SLR,
        "slr_released": solvers.SLRReleased,
        "admm": solvers.ADMM,
        "penalty": solvers.Penalty,
        "gradual": solvers.Gradual,
        "oneshot": solvers.OneShot,
    },
    {
        "cadence": Cadence,
        metrics.Metric: Annotated[Named, Choice("metric", METRICS)],
        solvers.Schedule: Annotated[Named, Choice("continuation", CONTINUATIONS)],
        solvers.RhoSchedule: Annotated[Named, Choice("rho schedule", RHO_SCHEDULES)],
    },
)
SETS = _family(sets.NAMES, {int: Annotated[int, Ge(1)]})
OPTIMISERS = _family(
    {"adam": optimising.Adam, "adamw": optimising.AdamW, "sgd": optimising.SGD}, {}
)
SCHEDULES = _family(
    {
        "constant": optimising.Flat,
        "cosine": optimising.Cosine,
        "step": optimising.Step,
        "milestones": optimising.Milestones,
    },
    {},
)

SolverChoice = Annotated[Named, Choice("method", SOLVERS)]
SetChoice = Annotated[Named, Choice("set", SETS)]
OptimiserChoice = Annotated[Named, Choice("optimiser", OPTIMISERS)]
ScheduleChoice = Annotated[Named, Choice("schedule", SCHEDULES)]
