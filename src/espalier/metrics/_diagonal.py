"""A metric measured at once, on a copy of a model, for whoever ranks before any training."""

import copy
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from espalier._ground.types import Weights
from espalier.errors import NonFiniteError, RequestError
from espalier.metrics._metric import Metric


def diagonal(
    metric: Metric, model: nn.Module, losses: Iterable[Callable[[nn.Module], Tensor]]
) -> Weights:
    r"""The diagonal h of a metric at a model's weights, from the gradients of some losses.

    .. math:: h_i \ge 0, \quad \text{for the Fisher information the mean of } (\partial L / \partial w_i)^2

    A copy of the model runs in training mode and takes no step; the model is as it was.

    Args:
        metric: One that needs no optimiser. ``Activations`` sees weights of convolutions and linear layers
            alone, the others every parameter.
        model: Any device.
        losses: From the model to a scalar, one for every batch.

    Returns:
        h by parameter name, shapes of the weights; empty for the plain norm.

    Raises:
        RequestError: A metric that reads an optimiser's moments, or no losses.
        NonFiniteError: A loss that is NaN or infinite.

    Source: that of the metric.

    Example:
        >>> from espalier.metrics import Fisher
        >>> net, x = nn.Linear(2, 1, bias=False), torch.tensor([[1.0, 3.0]])
        >>> diagonal(Fisher(), net, [lambda m: m(x).sum()])["weight"]
        tensor([[1., 9.]])
    """
    twin = copy.deepcopy(model).train()
    layers = {f"{path}.weight".removeprefix("."): m for path, m in twin.named_modules()}
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    plain = {name for name, module in layers.items() if isinstance(module, kinds)}
    parameters = dict(twin.named_parameters())
    named = plain & parameters.keys() if metric.name == "activations" else parameters.keys()
    gauge = metric.gauge(twin, tuple(n for n in parameters if n in named), None)
    seen = 0
    try:
        for loss in losses:
            twin.zero_grad(set_to_none=True)
            value = loss(twin)
            if not bool(torch.isfinite(value)):
                raise NonFiniteError(
                    f"the loss of batch {seen} is {value.item()}; nothing to rank by"
                )
            value.backward()  # type: ignore[no-untyped-call]
            gauge.observe({n: p.grad for n, p in parameters.items() if p.grad is not None})
            seen += 1
        found = gauge.diagonal({n: p for n, p in parameters.items() if n in named})
    finally:
        gauge.close()
    if not seen:
        raise RequestError("no losses to measure a metric from; give one batch at least")
    return {} if found is None else {name: h.detach() for name, h in found.items()}
