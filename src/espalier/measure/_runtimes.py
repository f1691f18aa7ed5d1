"""What can be timed: a module run eagerly, or under ``torch.compile``."""

import copy
import os
import shutil
import sys
from collections.abc import Callable

import torch
from torch import nn

from espalier._ground.example import Example, arguments, moved
from espalier.errors import RequestError

Prepare = Callable[[Example, int], Callable[[], object]]
"""From one batch and a number of threads to what is timed: a call without arguments."""


def eager(model: nn.Module) -> Prepare:
    """A copy of a module, in evaluation mode, on its own device."""

    def prepare(inputs: Example, threads: int) -> Callable[[], object]:
        return _call(copy.deepcopy(model).eval(), inputs, model)

    return prepare


def compiled(model: nn.Module) -> Prepare:
    """A copy of a module under ``torch.compile``: anew for each batch size and number of threads.

    Raises:
        RequestError: No C++ compiler, which code for the CPU needs.
    """
    compiler = os.environ.get("CXX", _CXX.get(sys.platform, "g++"))
    if _device(model).type == "cpu" and shutil.which(compiler) is None:
        raise RequestError(
            f"torch.compile needs a C++ compiler and there is no {compiler}; install one, name it in "
            "the environment variable CXX, or measure without torch.compile"
        )

    def prepare(inputs: Example, threads: int) -> Callable[[], object]:
        torch.compiler.reset()
        return _call(torch.compile(copy.deepcopy(model).eval(), dynamic=False), inputs, model)

    return prepare


_CXX = {"darwin": "clang++", "win32": "cl"}


def _device(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _call(run: Callable[..., object], inputs: Example, model: nn.Module) -> Callable[[], object]:
    device = _device(model)
    args, kwargs = moved(arguments(inputs), device)
    if device.type != "cuda":
        return lambda: run(*args, **kwargs)

    def call() -> None:
        run(*args, **kwargs)
        # A call on a GPU returns when its work is queued; what is timed is the work.
        torch.cuda.synchronize(device)

    return call
