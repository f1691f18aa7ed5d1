"""Plain reference networks; they know nothing of pruning."""

from espalier._ground.importing import import_object
from espalier.models._alexnet import AlexNet
from espalier.models._cifar_resnet import (
    CifarResNet,
    resnet20,
    resnet32,
    resnet44,
    resnet56,
    resnet110,
)
from espalier.models._lenet import LeNet5, LeNet300, lenet5, lenet300
from espalier.models._libraries import torchvision
from espalier.models._names import NAMES, ModelInfo, accepted, build
from espalier.models._resnet_cifar import ResNetCifar, resnet18_cifar, resnet50_cifar
from espalier.models._ufld import UFLD, ufld
from espalier.models._vgg_cifar import VGGCifar, vgg16_cifar, vgg19_cifar
from espalier.models._weights import load_weights
from espalier.models._yolo import Darknet, Head, yolov3, yolov3_spp, yolov3_tiny

__all__ = [
    "NAMES",
    "UFLD",
    "AlexNet",
    "CifarResNet",
    "Darknet",
    "Head",
    "LeNet5",
    "LeNet300",
    "ModelInfo",
    "ResNetCifar",
    "VGGCifar",
    "accepted",
    "build",
    "import_object",
    "lenet5",
    "lenet300",
    "load_weights",
    "resnet18_cifar",
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet50_cifar",
    "resnet56",
    "resnet110",
    "torchvision",
    "ufld",
    "vgg16_cifar",
    "vgg19_cifar",
    "yolov3",
    "yolov3_spp",
    "yolov3_tiny",
]
