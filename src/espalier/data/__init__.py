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
from espalier.data._detection import Scene, Scenes, load_coco, load_scenes, load_yolo
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
from espalier.data._text import load_bytes

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
    "Scene",
    "Scenes",
    "Split",
    "Transform",
    "augmentation",
    "crop_flip",
    "load",
    "load_bytes",
    "load_cifar10",
    "load_coco",
    "load_digits",
    "load_folder",
    "load_mnist",
    "load_scenes",
    "load_yolo",
    "random_crop",
    "random_flip",
    "stream_folder",
]
