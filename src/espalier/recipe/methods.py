"""Everything a recipe names by a ``method``: solvers, metrics, schedules, sets, optimisers."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any

from annotated_types import Ge
from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from espalier import metrics, sets, solvers
from espalier.recipe import optimising
from espalier.recipe._derive import derived
from espalier.recipe._part import Choice, Named

EPOCH = "epoch"
"""The cadence of one update an epoch."""


def _cadence(value: Any) -> Any:
    count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if count or value == EPOCH:
        return value
    raise PydanticCustomError(
        "cadence",
        "{value} is neither a count of steps >= 1 nor the word 'epoch'",
        {"value": repr(value)},
    )


Cadence = Annotated[
    int | str,
    BeforeValidator(_cadence),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"const": EPOCH}]}),
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
