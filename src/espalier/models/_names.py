"""The networks by name, and how to build one."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import nn

from espalier._ground.importing import call, import_object
from espalier.errors import RequestError, UnknownNameError, nearest
from espalier.models._alexnet import AlexNet
from espalier.models._cifar_resnet import resnet20, resnet32, resnet44, resnet56, resnet110
from espalier.models._lenet import lenet5, lenet300
from espalier.models._libraries import is_library, library_model
from espalier.models._resnet_cifar import resnet18_cifar, resnet50_cifar
from espalier.models._ufld import ufld
from espalier.models._vgg_cifar import vgg16_cifar, vgg19_cifar
from espalier.models._yolo import yolov3, yolov3_spp, yolov3_tiny


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What a network is, before it is built.

    Args:
        description: One line.
        input_shape: (C, H, W) of one image.
        parameters: Count of trainable parameters with the arguments it has by default.
        function: Builds it.
    """

    description: str
    input_shape: tuple[int, int, int]
    parameters: int
    function: Callable[..., nn.Module]


def _info(
    description: str,
    shape: tuple[int, int, int],
    parameters: int,
    function: Callable[..., nn.Module],
) -> ModelInfo:
    return ModelInfo(
        description=description, input_shape=shape, parameters=parameters, function=function
    )


_GREY, _COLOUR, _PHOTO = (1, 28, 28), (3, 32, 32), (3, 416, 416)

NAMES: Mapping[str, ModelInfo] = MappingProxyType(
    {
        "lenet5": _info("Caffe's LeNet-5, 20-50-500-10", _GREY, 431_080, lenet5),
        "lenet300": _info("LeNet-300-100, a perceptron", _GREY, 266_610, lenet300),
        "alexnet": _info("Caffe's AlexNet, with groups", (3, 227, 227), 60_965_224, AlexNet),
        "resnet20": _info("CIFAR ResNet-20, option A shortcuts", _COLOUR, 269_722, resnet20),
        "resnet32": _info("CIFAR ResNet-32, option A shortcuts", _COLOUR, 464_154, resnet32),
        "resnet44": _info("CIFAR ResNet-44, option A shortcuts", _COLOUR, 658_586, resnet44),
        "resnet56": _info("CIFAR ResNet-56, option A shortcuts", _COLOUR, 853_018, resnet56),
        "resnet110": _info("CIFAR ResNet-110, option A shortcuts", _COLOUR, 1_727_962, resnet110),
        "resnet18_cifar": _info(
            "ResNet-18 with a 3×3 stem, as in the SLR paper; maxpool: false for the usual one",
            _COLOUR, 11_173_962, resnet18_cifar,
        ),
        "resnet50_cifar": _info(
            "ResNet-50 with a 3×3 stem; maxpool as of resnet18_cifar", _COLOUR, 23_520_842,
            resnet50_cifar,
        ),
        "vgg16_cifar": _info(
            "VGG-16 with BatchNorm (batchnorm: false without), one linear layer", _COLOUR, 14_728_266,
            vgg16_cifar,
        ),
        "vgg19_cifar": _info(
            "VGG-19 with BatchNorm (batchnorm: false without), one linear layer", _COLOUR, 20_040_522,
            vgg19_cifar,
        ),
        "yolov3": _info("YOLOv3, 80 classes, three maps of boxes", _PHOTO, 61_949_149, yolov3),
        "yolov3_spp": _info("YOLOv3 with a pyramid of max-pools", _PHOTO, 62_998_749, yolov3_spp),
        "yolov3_tiny": _info("YOLOv3-tiny, 80 classes, two maps", _PHOTO, 8_852_366, yolov3_tiny),
        "ufld": _info(
            "Ultra-Fast-Lane-Detection on ResNet-18, for TuSimple", (3, 288, 800), 61_225_640, ufld
        ),
    }
)  # fmt: skip
"""Every network that can be built by name."""


def build(name: str, **arguments: Any) -> nn.Module:
    """A network by name, newly initialised from PyTorch's global random state.

    Args:
        name: One of ``NAMES``; ``torchvision:``, ``timm:`` or ``transformers:`` and the name of one of
            their models; or ``package.module:function`` for your own, from the current directory too.
        **arguments: Handed to the function; ``classes`` for all of ours and of the libraries'.

    Returns:
        The module, in training mode, on PyTorch's default device.

    Raises:
        UnknownNameError: No such network, module or attribute.
        RequestError: The arguments do not fit, or your function returns something else.

    Example:
        >>> build("lenet5", classes=3).fc2
        Linear(in_features=500, out_features=3, bias=True)
    """
    if is_library(name):
        return library_model(name, arguments)
    if name in NAMES:
        function: Any = NAMES[name].function
    elif ":" in name:
        function = import_object(name)
    else:
        hint = nearest(name, NAMES)
        raise UnknownNameError(
            f"no model {name!r}; {hint}, torchvision:, timm: or transformers: and a name of theirs, or "
            "package.module:function"
        )
    model = call(function, name, **arguments)
    if not isinstance(model, nn.Module):
        raise RequestError(
            f"{name} returned a {type(model).__name__}; it must return a torch.nn.Module"
        )
    return model


def accepted(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a named model's builder takes of what a task says of the model, such as ``{"classes": 10}``.

    Args:
        name: As :func:`build` takes it; a function of the user's own is told nothing.
        given: The task's ``model_arguments``.

    Example:
        >>> accepted("lenet5", {"classes": 3, "words": 9}), accepted("timm:vgg11", {"classes": 3})
        ({'classes': 3}, {'classes': 3})
    """
    if is_library(name):
        return {key: value for key, value in given.items() if key == "classes"}
    if name not in NAMES:
        return {}
    taken = inspect.signature(NAMES[name].function).parameters
    return {key: value for key, value in given.items() if key in taken}
