"""BatchNorm statistics of the weights as they are now.

After a cut the activations have other means and variances than the running statistics remember.
Measuring them again on a few batches changes no weight: it is not retraining, is cheap, and often
decides the accuracy of what was cut.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from espalier._ground.example import Example, call
from espalier.errors import RequestError


def batchnorms(model: nn.Module) -> list[_BatchNorm]:
    """The layers of a model that keep running statistics of their batches."""
    return [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    ]


@torch.no_grad()
def reestimate_(model: nn.Module, inputs: Iterable[Example]) -> None:
    r"""Measure the running statistics of every BatchNorm anew, over some batches.

    .. math:: \hat\mu = \tfrac1B \sum_{b=1}^B \mu_b, \qquad
              \hat\sigma^2 = \tfrac1B \sum_{b=1}^B \sigma_b^2

    with :math:`\mu_b` and :math:`\sigma_b^2` the mean and the unbiased variance of batch b, every
    batch counting the same. Everything else runs in eval mode (no dropout). Momentum and modes are
    restored; no weight changes. Without BatchNorm it does nothing.

    Args:
        model: Its BatchNorm buffers are overwritten in place.
        inputs: At least one batch, on the model's device; batches as large as in training.

    Raises:
        RequestError: ``inputs`` is empty; the statistics are then unchanged.

    Example:
        >>> model = nn.BatchNorm1d(1)
        >>> reestimate_(model, [torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0], [7.0]])])
        >>> model.running_mean, model.running_var
        (tensor([4.]), tensor([2.]))
    """
    layers = batchnorms(model)
    if not layers:
        return
    saved = _statistics(layers)
    modes = [(module, module.training) for module in model.modules()]
    momenta = [layer.momentum for layer in layers]
    batches = 0
    try:
        model.eval()
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # torch's word for the cumulative average
            layer.train()
        for batch in inputs:
            call(model, batch)
            batches += 1
        if not batches:
            raise RequestError("no input to re-estimate BatchNorm on; give at least one batch")
    except BaseException:
        _restore_(layers, saved)
        raise
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for module, training in modes:
            module.training = training


@contextmanager
def reestimated(model: nn.Module, inputs: Iterable[Example]) -> Iterator[None]:
    """The model with re-estimated statistics; the old come back, bit for bit, on exit."""
    layers = batchnorms(model)
    saved = _statistics(layers)
    try:
        reestimate_(model, inputs)
        yield
    finally:
        _restore_(layers, saved)


def _statistics(layers: list[_BatchNorm]) -> list[list[Tensor]]:
    return [[buffer.clone() for buffer in layer.buffers()] for layer in layers]


@torch.no_grad()
def _restore_(layers: list[_BatchNorm], saved: list[list[Tensor]]) -> None:
    for layer, buffers in zip(layers, saved, strict=True):
        for buffer, value in zip(layer.buffers(), buffers, strict=True):
            buffer.copy_(value)
