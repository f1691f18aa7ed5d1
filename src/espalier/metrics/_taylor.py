"""First-order Taylor scores: what the loss would change by if a weight went."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn

from espalier._ground.types import Weights
from espalier.metrics._metric import Gauge, Metric
from espalier.metrics._scores import ranking


@dataclass(frozen=True)
class Taylor(Metric):
    r"""The energy of a weight is the running mean of (g·w)², the squared change of the loss to first order.

    .. math:: h_i w_i^2 = \operatorname{mean}_t \, (g_{t,i}\, w_{t,i})^2

    Units are ranked by the sum over their weights. It differs from :class:`Fisher`, mean(g²)·w², where the
    weights have moved since: each gradient is weighed by the weight of its own step. A ranking rather than a
    norm, so meant for what cuts: gradual and one-shot pruning. Costs one tensor per weight.

    Args:
        beta: Decay of the running mean per step, in [0, 1).

    Source: Molchanov, Mallya, Tyree, Frosio & Kautz 2019, "Importance Estimation for Neural Network
    Pruning" (arXiv:1906.10771), equation (6), and (8) summed over the weights of a unit.
    """

    name = "taylor"
    sentence = "running mean of (gradient × weight)²: the loss's change, squared, if a weight went"

    beta: Annotated[float, Ge(0), Lt(1)] = 0.99

    def gauge(
        self, model: nn.Module, names: tuple[str, ...], optimizer: torch.optim.Optimizer | None
    ) -> Gauge:
        return _TaylorGauge(model, self.beta)


class _TaylorGauge(Gauge):
    def __init__(self, model: nn.Module, beta: float) -> None:
        self._model, self._beta = model, beta
        self._mean: dict[str, Tensor] = {}

    @torch.no_grad()
    def observe(self, gradients: Weights) -> None:
        for name, g in gradients.items():
            square = (g.float() * self._model.get_parameter(name).float()).square()
            if name in self._mean:
                self._mean[name].lerp_(square, 1.0 - self._beta)
            else:
                self._mean[name] = square

    def diagonal(self, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor] | None:
        return ranking(self._mean, parameters) if self._mean else None

    def state_dict(self) -> dict[str, Any]:
        return {"mean": dict(self._mean)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._mean = dict(state["mean"])
