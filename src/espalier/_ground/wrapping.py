"""What stands between a caller's model and its weights: wrappers, and weights that are computed."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm, remove_spectral_norm
from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm
from torch.optim import Optimizer

from espalier._ground.modes import evaluating


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, out of ``torch.compile``, ``DataParallel``, ``DistributedDataParallel`` and Fabric.

    >>> unwrapped(nn.DataParallel(nn.Linear(2, 3)))
    Linear(in_features=2, out_features=3, bias=True)
    """
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = model.module
        else:
            # torch.compile's module, and Lightning Fabric's
            inner = model._modules.get("_orig_mod") or model._modules.get("_original_module")
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def unwrapped_optimizer(optimizer: Any) -> Any:
    """The optimiser itself, out of the wrappers of Accelerate, Fabric and Lightning; anything else as it is.

    >>> adam = torch.optim.Adam([torch.zeros(1)])
    >>> unwrapped_optimizer(adam) is adam
    True
    """
    while isinstance(inner := getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = inner
    return optimizer


def computed(model: nn.Module) -> dict[str, str]:
    """The weights that modules compute before every call -> by what.

    >>> computed(torch.nn.utils.parametrizations.weight_norm(nn.Linear(2, 3)))
    {'weight': '_WeightNorm (torch.nn.utils.parametrize)'}
    """
    found = {}
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        if parametrize.is_parametrized(module):
            for name, steps in module.parametrizations.items():
                kinds = ", ".join(type(step).__name__ for step in steps)
                found[prefix + name] = f"{kinds} (torch.nn.utils.parametrize)"
        for hook, name in _hooks(module):
            found[prefix + name] = f"torch.nn.utils.{_CALLED[hook]}"
    return found


def plain(model: nn.Module) -> nn.Module:
    """The model unwrapped, every weight that it computes made an ordinary parameter.

    In evaluation mode the result computes the same.

    Returns:
        A copy; the model itself, unwrapped, where it computes no weight.

    >>> net = prune.l1_unstructured(nn.Linear(2, 3), "weight", amount=4)
    >>> [name for name, _ in plain(net).named_parameters()]
    ['bias', 'weight']
    """
    model = unwrapped(model)
    if not computed(model):
        return model
    made = copied(model)
    with evaluating(made), torch.no_grad():
        for module in list(made.modules()):
            if parametrize.is_parametrized(module):
                _settle_(module)
            for hook, name in _hooks(module):
                _REMOVED[hook](module, name)  # type: ignore[no-untyped-call]
    return made


def _settle_(module: nn.Module) -> None:
    """Of one parametrised module: the class it was before, with the weights that it computes.

    PyTorch's own ``remove_parametrizations`` takes them from the class, which a copy shares.
    """
    values = {name: getattr(module, name).detach() for name in module.parametrizations}  # type: ignore[union-attr]
    own = type(module).__bases__[0]
    del module._modules["parametrizations"]
    module.__class__ = own
    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value.clone()))


def copied(model: nn.Module, known: Mapping[int, Any] | None = None) -> nn.Module:
    """A deep copy, also where a module holds a computed weight, which ``deepcopy`` refuses alone.

    Args:
        model: To be copied.
        known: ``id`` of an object -> what stands for it in the copy.
    """
    memo: dict[int, Any] = dict(known or {})
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo.setdefault(id(value), value.detach().clone())
    return copy.deepcopy(model, memo)


_CALLED = {
    prune.BasePruningMethod: "prune",
    WeightNorm: "weight_norm",
    SpectralNorm: "spectral_norm",
}
_REMOVED = {
    prune.BasePruningMethod: prune.remove,
    WeightNorm: remove_weight_norm,
    SpectralNorm: remove_spectral_norm,
}


def _hooks(module: nn.Module) -> list[tuple[type, str]]:
    """The hooks that compute a weight: of which kind, and its name."""
    found = []
    for hook in list(module._forward_pre_hooks.values()):
        for kind in _CALLED:
            if isinstance(hook, kind):
                name = getattr(hook, "_tensor_name", None) or getattr(hook, "name", "weight")
                found.append((kind, str(name)))
    return found
