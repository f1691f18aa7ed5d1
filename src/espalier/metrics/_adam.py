"""The optimiser's own norm: the square root of Adam's second moment."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from espalier.errors import RequestError
from espalier.metrics._metric import Gauge, Metric


@dataclass(frozen=True)
class AdamMoment(Metric):
    r"""H = √v̂, Adam's running root mean square of the gradient: saliency w²·√v̂.

    A step of Adam is a step of steepest descent in this norm, so the nearest point in it is the one the
    optimiser can reach most cheaply. Costs nothing: the moments are the optimiser's. Its scale (bias
    correction) is common to all weights and leaves the projection as it is.

    Works with any optimiser that keeps ``exp_avg_sq`` in its state: Adam, AdamW, NAdam, RAdam.
    """

    name = "adam"
    sentence = (
        "the root of Adam's second moment: what the optimiser can reach most cheaply; costs nothing"
    )

    def gauge(
        self, model: nn.Module, names: tuple[str, ...], optimizer: torch.optim.Optimizer | None
    ) -> Gauge:
        if optimizer is None:
            raise RequestError(
                "the metric AdamMoment reads the optimiser's second moments but no optimizer was given; "
                "write Pruning(model, plan, solver, optimizer=optimizer)"
            )
        return _AdamGauge(optimizer)


class _AdamGauge(Gauge):
    """Knows whether the optimiser has stepped: a step that a gradient scaler left out has made no moments."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer, self._stepped = optimizer, False
        optimizer.register_step_post_hook(self._see)

    def _see(self, *_: object) -> None:
        # The hook stays: taken off in here, or by a handle that settles in a hook of its own, it would be taken
        # from under the optimiser, which is calling them.
        if self._stepped:
            return
        self._stepped = True
        if not any(_moment(p, state) is not None for p, state in self._optimizer.state.items()):
            raise self._lacking()

    def _lacking(self) -> RequestError:
        return RequestError(
            f"the metric AdamMoment needs an optimiser that keeps exp_avg_sq (Adam, AdamW …) as floats, one for "
            f"each weight, got {type(self._optimizer).__name__}; choose Fisher() for it"
        )

    def diagonal(self, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor] | None:
        moments = {}
        for name, parameter in parameters.items():
            state = self._optimizer.state.get(parameter, {})
            if not state and not self._stepped:
                return None  # before the first step every direction is alike
            moment = _moment(parameter, state)
            if moment is None:
                raise self._lacking()
            moments[name] = moment.float().sqrt() + 1e-8
        return moments

    def close(self) -> None:
        self._stepped = True


def _moment(parameter: Tensor, state: Mapping[str, Any]) -> Tensor | None:
    """v̂ of a parameter; ``None`` where there is none, or it is factored (Adafactor) or coded in 8 bits."""
    moment = state.get("exp_avg_sq")
    if not isinstance(moment, Tensor) or not moment.is_floating_point():
        return None
    return moment if moment.shape == parameter.shape else None
