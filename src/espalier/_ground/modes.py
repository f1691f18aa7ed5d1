"""Evaluation mode for a while; a model left as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; after it every module's own mode, also when the block raises.

    >>> net = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
    >>> with evaluating(net):
    ...     [m.training for m in net]
    [False, False]
    >>> [m.training for m in net]
    [True, False]
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients inside; after it every mode and every buffer is as it was.

    Buffers that a forward writes (running statistics, counts of calls) get their numbers back.

    >>> net = nn.BatchNorm1d(2)
    >>> with undisturbed(net):
    ...     _ = net.train()(torch.randn(4, 2))
    >>> net.num_batches_tracked.item(), net.training
    (0, True)
    """
    held = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    with evaluating(model), torch.no_grad():
        try:
            yield
        finally:
            for module, name, buffer, before in held:
                module._buffers[name] = buffer
                if not torch.equal(buffer, before):
                    buffer.copy_(before)
