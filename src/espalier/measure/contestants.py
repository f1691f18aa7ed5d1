"""What can be timed: a module run eagerly, or under ``torch.compile``."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

Prepare = Callable[[Tensor, int], Callable[[], object]]
"""From one batch and a number of threads to what is timed: a call without arguments."""


def eager(model: nn.Module) -> Prepare:
    """A copy of a module, in evaluation mode, on its own device."""

    def prepare(inputs: Tensor, threads: int) -> Callable[[], object]:
        return _call(copy.deepcopy(model).eval(), inputs, model)

    return prepare


def compiled(model: nn.Module) -> Prepare:
    """A copy of a module under ``torch.compile``: anew for each batch size and number of threads."""

    def prepare(inputs: Tensor, threads: int) -> Callable[[], object]:
        torch.compiler.reset()
        return _call(torch.compile(copy.deepcopy(model).eval(), dynamic=False), inputs, model)

    return prepare


def _call(
    run: Callable[[Tensor], object], inputs: Tensor, model: nn.Module
) -> Callable[[], object]:
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    inputs = inputs.to(device)
    if device.type != "cuda":
        return lambda: run(inputs)

    def call() -> None:
        run(inputs)
        torch.cuda.synchronize(device)

    return call
