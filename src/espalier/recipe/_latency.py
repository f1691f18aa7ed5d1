"""A plan for a latency, as a recipe asks for it."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from torch import nn

from espalier import budgets
from espalier._ground.example import Example
from espalier.errors import RecipeError
from espalier.export import in_onnx_runtime, in_openvino
from espalier.measure._runtimes import Prepare, compiled, eager
from espalier.planning import Plan, Ranking
from espalier.recipe._sections import LatencySection
from espalier.search import plan_for_latency

Runtime = Callable[[nn.Module], Prepare]
RUNTIMES: Mapping[str, Callable[[Example], Runtime]] = MappingProxyType(
    {
        "eager": lambda _: eager,
        "compiled": lambda _: compiled,
        "onnxruntime": lambda example: partial(in_onnx_runtime, example=example),
        "openvino": lambda example: partial(in_openvino, example=example),
    }
)
"""What can time a model, by the name a recipe gives it."""


def plan_latency(
    section: LatencySection,
    model: nn.Module,
    example: Example,
    threads: int,
    allocation: Any,
    **wanted: Any,
) -> Plan:
    """The plan of :func:`espalier.plan_for_latency` with the settings of a recipe.

    Args:
        section: What is asked.
        model: In evaluation mode.
        example: One batch.
        threads: That a call may use.
        allocation: A budget rule: uniform, or a ranking of all groups.
        **wanted: The set and what else a plan is told.

    Raises:
        RecipeError: A budget rule that does not choose widths.
        BudgetError: It is not met.
    """
    if allocation is budgets.global_magnitude:
        allocation = Ranking()
    if allocation is not budgets.uniform and not isinstance(allocation, Ranking):
        raise RecipeError("plan.latency chooses widths: allocation is uniform or global")
    found = plan_for_latency(
        model, example, section.of_dense, batch=section.batch, threads=threads,
        runtime=RUNTIMES[section.runtime](example),
        allocation=allocation if isinstance(allocation, Ranking) else None, **wanted,
    )  # fmt: skip
    return found.plan
