"""Dataset readers: plain files to labelled images in memory. Nothing is unpickled."""

from espalier.data._image_set import ImageSet, Split
from espalier.data._names import NAMES, NORMALISATIONS, DatasetInfo, load
from espalier.data.augment import (
    AUGMENTATIONS,
    Augment,
    augmentation,
    crop_flip,
    random_crop,
    random_flip,
)
from espalier.data.cifar10 import load_cifar10
from espalier.data.digits import load_digits
from espalier.data.folder import load_folder
from espalier.data.mnist import load_mnist

__all__ = [
    "AUGMENTATIONS",
    "NAMES",
    "NORMALISATIONS",
    "Augment",
    "DatasetInfo",
    "ImageSet",
    "Split",
    "augmentation",
    "crop_flip",
    "load",
    "load_cifar10",
    "load_digits",
    "load_folder",
    "load_mnist",
    "random_crop",
    "random_flip",
]
