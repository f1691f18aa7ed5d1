"""The diagonal of the empirical Fisher information."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn

from espalier._ground.types import Weights
from espalier.metrics._metric import Gauge, Metric


@dataclass(frozen=True)
class Fisher(Metric):
    r"""H = running mean of g², g the minibatch gradient: w²·h/2 is the second-order rise of the loss.

    Costs one tensor per weight. Source: LeCun et al. 1989 (optimal brain damage), with the Hessian's diagonal
    replaced by the empirical Fisher, as in Theis et al. 2018.

    Args:
        beta: Decay of the running mean, in [0, 1); 0.999 remembers some 1,000 steps.
    """

    name = "fisher"
    sentence = "running mean of squared gradients: the rise of the loss to second order"

    beta: Annotated[float, Ge(0), Lt(1)] = 0.999

    def gauge(
        self, model: nn.Module, names: tuple[str, ...], optimizer: torch.optim.Optimizer | None
    ) -> Gauge:
        return _FisherGauge(self.beta)


class _FisherGauge(Gauge):
    sees_gradients = True

    def __init__(self, beta: float) -> None:
        self._beta = beta
        self._mean: dict[str, Tensor] = {}

    @torch.no_grad()
    def observe(self, gradients: Weights) -> None:
        for name, g in gradients.items():
            square = g.float().square()
            mean = self._mean.get(name)
            # The step of a gradient that overflowed is left out by a gradient scaler, and so is it here.
            known = torch.zeros_like(square) if mean is None else mean
            square = square.where(square.isfinite(), known)
            self._mean[name] = square if mean is None else mean.lerp_(square, 1.0 - self._beta)

    def diagonal(self, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor] | None:
        return dict(self._mean) or None

    def state_dict(self) -> dict[str, Any]:
        return {"mean": dict(self._mean)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._mean = dict(state["mean"])
