"""The norm of what a weight multiplies: its input feature's mean square."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn

from espalier._ground.types import Weights
from espalier._ground.world import World
from espalier.errors import RequestError
from espalier.metrics._metric import Gauge, Metric


@dataclass(frozen=True)
class Activations(Metric):
    r"""H_{oi} = mean of x_i² over batch and positions: the nearest point in *output* space, inputs uncorrelated.

    Costs one number an input feature and a forward hook a layer. Source: Sun et al. 2024 (Wanda),
    score |w|·‖x‖₂, squared; as a running mean here.

    Args:
        beta: Decay of the running mean per step, in [0, 1).
    """

    name = "activations"
    sentence = "mean square of the input that a weight multiplies (convolutions and linear layers)"

    beta: Annotated[float, Ge(0), Lt(1)] = 0.99

    def gauge(
        self, model: nn.Module, names: tuple[str, ...], optimizer: torch.optim.Optimizer | None
    ) -> Gauge:
        return _ActivationGauge(model, names, self.beta)


class _ActivationGauge(Gauge):
    sees_gradients = True  # no measure of its own, but the sign that training has begun

    def __init__(self, model: nn.Module, names: tuple[str, ...], beta: float) -> None:
        self._beta = beta
        self._mean: dict[str, Tensor] = {}  # parameter name → mean square, shape (input features,)
        self._hooks = []
        self._begun = False
        for name in names:
            layer_name, _, attribute = name.rpartition(".")
            layer = model.get_submodule(layer_name)
            if attribute != "weight" or not isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd)):
                raise RequestError(
                    f"{name}: the metric Activations needs the weight of a convolution or linear layer, "
                    f"got {type(layer).__name__}; exclude it or choose another metric"
                )
            self._hooks.append(layer.register_forward_pre_hook(self._hook(name)))

    def _hook(self, name: str) -> Any:
        @torch.no_grad()
        def see(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if not layer.training:
                return
            x = inputs[0].detach().float()
            if isinstance(layer, nn.Linear):
                square = x.square().flatten(0, -2).mean(0)
            else:
                axis = -layer.weight.dim() + 1  # type: ignore[operator]
                square = x.square().movedim(axis, -1).flatten(0, -2).mean(0)
            mean = self._mean.get(name)
            self._mean[name] = square if mean is None else mean.lerp(square, 1.0 - self._beta)

        return see

    def observe(self, gradients: Weights) -> None:
        self._begun = True

    def share_(self, world: World) -> None:
        for name, mean in self._mean.items() if world.size > 1 else ():
            self._mean[name] = world.sum(mean) / world.size

    def diagonal(self, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor] | None:
        unseen = [name for name in parameters if name not in self._mean]
        if unseen and self._begun:
            raise RequestError(
                f"{unseen[0]}: the metric Activations has seen no input of this layer, which was not called in "
                "train mode; train it in train mode, or exclude it or choose another metric"
            )
        if unseen:
            return None
        return {name: _per_weight(self._mean[name], p) for name, p in parameters.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"mean": dict(self._mean)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._mean = dict(state["mean"])

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()


def _per_weight(mean: Tensor, weight: Tensor) -> Tensor:
    """Spread (groups · I/groups,) over a weight (O, I/groups, …): a filter sees its own group's inputs."""
    outputs, inputs = weight.shape[:2]
    per_group = mean.reshape(-1, inputs).repeat_interleave(outputs * inputs // mean.numel(), 0)
    return per_group.reshape(outputs, inputs, *[1] * (weight.dim() - 2)).expand_as(weight)
