"""The networks by name, and how to build one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import nn

from espalier._ground.importing import call, import_object
from espalier.errors import RequestError, UnknownNameError, nearest
from espalier.models._cifar_resnet import resnet20, resnet32, resnet44, resnet56, resnet110
from espalier.models._lenet import lenet5, lenet300
from espalier.models._resnet18_cifar import resnet18_cifar
from espalier.models._vgg_cifar import vgg16_cifar


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What a network is, before it is built.

    Args:
        description: One line.
        input_shape: (C, H, W) of one image.
        parameters: Count of trainable parameters for ten classes.
        function: Builds it.
    """

    description: str
    input_shape: tuple[int, int, int]
    parameters: int
    function: Callable[..., nn.Module]


def _grey(description: str, parameters: int, function: Callable[..., nn.Module]) -> ModelInfo:
    return ModelInfo(
        description=description,
        input_shape=(1, 28, 28),
        parameters=parameters,
        function=function,
    )


def _colour(description: str, parameters: int, function: Callable[..., nn.Module]) -> ModelInfo:
    return ModelInfo(
        description=description,
        input_shape=(3, 32, 32),
        parameters=parameters,
        function=function,
    )


NAMES: Mapping[str, ModelInfo] = MappingProxyType(
    {
        "lenet5": _grey("Caffe's LeNet-5, 20-50-500-10", 431_080, lenet5),
        "lenet300": _grey("LeNet-300-100, a perceptron", 266_610, lenet300),
        "resnet20": _colour("CIFAR ResNet-20, option A shortcuts", 269_722, resnet20),
        "resnet32": _colour("CIFAR ResNet-32, option A shortcuts", 464_154, resnet32),
        "resnet44": _colour("CIFAR ResNet-44, option A shortcuts", 658_586, resnet44),
        "resnet56": _colour("CIFAR ResNet-56, option A shortcuts", 853_018, resnet56),
        "resnet110": _colour("CIFAR ResNet-110, option A shortcuts", 1_727_962, resnet110),
        "resnet18_cifar": _colour(
            "ResNet-18 with a 3×3 stem, as in the SLR paper; maxpool: false for the usual one",
            11_173_962,
            resnet18_cifar,
        ),
        "vgg16_cifar": _colour("VGG-16 with BatchNorm, one linear layer", 14_728_266, vgg16_cifar),
    }
)
"""Every network that can be built by name."""


def build(name: str, **arguments: Any) -> nn.Module:
    """A network by name, newly initialised from PyTorch's global random state.

    Args:
        name: One of ``NAMES``, or ``package.module:function`` for your own; the current directory
            is importable.
        **arguments: Handed to the function; ``classes`` for all of ours.

    Returns:
        The module, in training mode, on PyTorch's default device.

    Raises:
        UnknownNameError: No such network, module or attribute.
        RequestError: The arguments do not fit, or your function returns something else.

    Example:
        >>> build("lenet5", classes=3).fc2
        Linear(in_features=500, out_features=3, bias=True)
    """
    if name in NAMES:
        function: Any = NAMES[name].function
    elif ":" in name:
        function = import_object(name)
    else:
        hint = nearest(name, NAMES)
        raise UnknownNameError(f"no model {name!r}; {hint}, or package.module:function")
    model = call(function, name, **arguments)
    if not isinstance(model, nn.Module):
        raise RequestError(
            f"{name} returned a {type(model).__name__}; it must return a torch.nn.Module"
        )
    return model
