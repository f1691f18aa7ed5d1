"""Dataset readers: plain files to labelled images, in memory or one by one. Nothing is unpickled."""

from espalier.data._augment import (
    AUGMENTATIONS,
    Augment,
    augmentation,
    crop_flip,
    random_crop,
    random_flip,
)
from espalier.data._cifar10 import load_cifar10
from espalier.data._digits import load_digits
from espalier.data._folder import load_folder
from espalier.data._image_set import ImageSet, Split
from espalier.data._mnist import load_mnist
from espalier.data._names import NAMES, NORMALISATIONS, DatasetInfo, load
from espalier.data._streamed import (
    CentreCrop,
    FolderImages,
    FolderSplit,
    RandomCrop,
    Transform,
    stream_folder,
)

__all__ = [
    "AUGMENTATIONS",
    "NAMES",
    "NORMALISATIONS",
    "Augment",
    "CentreCrop",
    "DatasetInfo",
    "FolderImages",
    "FolderSplit",
    "ImageSet",
    "RandomCrop",
    "Split",
    "Transform",
    "augmentation",
    "crop_flip",
    "load",
    "load_cifar10",
    "load_digits",
    "load_folder",
    "load_mnist",
    "random_crop",
    "random_flip",
    "stream_folder",
]
