"""Plain reference networks; they know nothing of pruning."""

from espalier._ground.importing import import_object
from espalier.models._cifar_resnet import (
    CifarResNet,
    resnet20,
    resnet32,
    resnet44,
    resnet56,
    resnet110,
)
from espalier.models._lenet import LeNet5, LeNet300, lenet5, lenet300
from espalier.models._names import NAMES, ModelInfo, build
from espalier.models._resnet18_cifar import ResNet18Cifar, resnet18_cifar
from espalier.models._vgg_cifar import VGG16Cifar, vgg16_cifar
from espalier.models._weights import load_weights

__all__ = [
    "NAMES",
    "CifarResNet",
    "LeNet5",
    "LeNet300",
    "ModelInfo",
    "ResNet18Cifar",
    "VGG16Cifar",
    "build",
    "import_object",
    "lenet5",
    "lenet300",
    "load_weights",
    "resnet18_cifar",
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
    "resnet110",
    "vgg16_cifar",
]
