"""A plan for a latency, as a recipe asks for it."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from torch import nn

from espalier._ground.example import Example
from espalier.export import in_onnx_runtime, in_openvino
from espalier.measure._runtimes import Prepare, compiled, eager
from espalier.planning import Plan
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
    section: LatencySection, model: nn.Module, example: Example, **wanted: Any
) -> Plan:
    """The plan of :func:`espalier.plan_for_latency` with the settings of a recipe.

    Args:
        section: What is asked.
        model: In evaluation mode.
        example: One batch.
        **wanted: The set, threads, and what else it is told.

    Raises:
        BudgetError: It is not met, or a budget rule that does not choose widths.
    """
    runtime = RUNTIMES[section.runtime](example)
    found = plan_for_latency(
        model, example, section.of_dense, batch=section.batch, runtime=runtime, **wanted
    )
    return found.plan
