"""How long each layer takes, measured inside the running model."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from espalier._ground.example import Example
from espalier._ground.modes import evaluating
from espalier.errors import RequestError
from espalier.measure._costs import _device, _one_sample
from espalier.measure._kinds import layer_kinds


def layer_seconds(model: nn.Module, example_input: Example, rounds: int = 15) -> dict[str, float]:
    """Seconds of every convolution and linear layer for one sample, by the name of its weight.

    The median over the rounds of the time between a layer's start and end; the first round warms up. On a
    GPU every layer is waited for. A layer with several weights shares its seconds out by their sizes.

    Args:
        model: On a device with values; its mode is restored.
        example_input: One batch; only the first sample is used.
        rounds: Calls of the model, at least 1.

    Raises:
        RequestError: Fewer than one round, or a model without values.

    Example:
        >>> net = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> list(layer_seconds(net, torch.zeros(1, 8), rounds=3))
        ['0.weight', '2.weight']
    """
    device = _device(model)
    if rounds < 1 or device.type == "meta":
        raise RequestError(f"rounds={rounds} on {device}: give 1 or more, and a model with values")
    kinds = layer_kinds(model)
    weights: dict[str, list[tuple[str, int]]] = {}
    for name, parameter in model.named_parameters():
        if kinds[name].is_conv or kinds[name].is_linear:
            path = name.rpartition(".")[0]
            weights.setdefault(path, []).append((name, parameter.numel()))
    spent: dict[str, list[float]] = {path: [] for path in weights}
    began: dict[str, float] = {}

    def clock() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    def start(path: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            began[path] = clock()

        return hook

    def stop(path: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            spent[path][-1] += clock() - began[path]

        return hook

    args, kwargs = _one_sample(example_input, device)
    hooks = []
    for path in weights:
        module = model.get_submodule(path)
        hooks.append(module.register_forward_pre_hook(start(path)))
        hooks.append(module.register_forward_hook(stop(path)))
    try:
        with evaluating(model), torch.no_grad():
            for _ in range(rounds + 1):
                for times in spent.values():
                    times.append(0.0)
                model(*args, **kwargs)
    finally:
        for handle in hooks:
            handle.remove()
    found: dict[str, float] = {}
    for path, held in weights.items():
        median, numel = statistics.median(spent[path][1:]), sum(n for _, n in held)
        found |= {name: median * n / max(1, numel) for name, n in held}
    return found
