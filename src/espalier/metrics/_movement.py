"""Movement scores: the weights that grow stay, those that shrink go."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from espalier._ground.types import Weights
from espalier.metrics._metric import Gauge, Metric
from espalier.metrics._scores import ranking


@dataclass(frozen=True)
class Movement(Metric):
    r"""The energy of a weight is how far training has moved it away from zero, not how far it is from there.

    .. math:: s_i = -\sum_t g_{t,i}\, w_{t,i}, \qquad h_i w_i^2 = s_i - \min_j s_j

    s rises where a step of descent makes \|w\| larger and falls where it makes it smaller. The shift is one
    for all weights and changes no order among units of one size. A ranking rather than a norm, so meant for
    what cuts: gradual and one-shot pruning, of a model that was trained for something before.
    Costs one tensor per weight.

    Source: Sanh, Wolf & Rush 2020, "Movement Pruning: Adaptive Sparsity by Fine-Tuning" (arXiv:2005.07683),
    equation (3), the hard form; Lagunas et al. 2021 for the sums over blocks.
    """

    name = "movement"
    sentence = "minus the sum of gradient × weight: weights that training moves away from zero stay"

    def gauge(
        self, model: nn.Module, names: tuple[str, ...], optimizer: torch.optim.Optimizer | None
    ) -> Gauge:
        return _MovementGauge(model)


class _MovementGauge(Gauge):
    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._scores: dict[str, Tensor] = {}

    @torch.no_grad()
    def observe(self, gradients: Weights) -> None:
        for name, g in gradients.items():
            w = self._model.get_parameter(name).float()
            if name not in self._scores:
                self._scores[name] = torch.zeros_like(w)
            self._scores[name].addcmul_(g.float(), w, value=-1.0)

    def diagonal(self, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor] | None:
        return ranking(self._scores, parameters) if self._scores else None

    def state_dict(self) -> dict[str, Any]:
        return {"scores": dict(self._scores)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._scores = dict(state["scores"])
