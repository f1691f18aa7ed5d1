"""Images in folders named for their classes, read from the disk when they are asked for."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from espalier.data._folder import MEAN, STD, listed, read_image
from espalier.errors import RequestError, shown

Transform = Callable[[Image.Image], Any]
"""An image in RGB to what the model sees of it, such as a transform of ``torchvision.transforms.v2``."""

_AREA = (0.08, 1.0)
_RATIO = (3 / 4, 4 / 3)
_TRIES = 10
_MAX_SIZE = 1 << 14


class FolderImages:
    """A data set of image files: nothing is held but their names.

    Args:
        files: The images.
        labels: The class of each.
        transform: Called with each image in RGB; what it draws at random it has to draw from the global
            generators, which ``seeded_loader`` seeds for every batch.
    """

    def __init__(self, files: list[Path], labels: list[int], transform: Transform) -> None:
        # One array of text, not a list of paths: worker processes then share its memory, where counting
        # references would copy it page by page into each of them.
        self.files = np.array([str(file) for file in files])
        self.labels = torch.tensor(labels)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = read_image(Path(str(self.files[index])))
        return self.transform(image), int(self.labels[index])


@dataclass(frozen=True, kw_only=True)
class FolderSplit:
    """A training and a test set of image files with the same classes."""

    train: FolderImages
    test: FolderImages
    classes: tuple[str, ...]


def stream_folder(
    path: str | Path,
    *,
    size: int = 224,
    transform: Transform | None = None,
    test_transform: Transform | None = None,
) -> FolderSplit:
    """Colour images from ``train/<class>/*.jpg|jpeg|png`` and ``test/`` or ``val/`` likewise, read one by one.

    Args:
        path: The folder that holds ``train``; ImageNet as it is unpacked, for instance.
        size: Side of the images in pixels, 1 to 16,384.
        transform: Of training images; by default :class:`RandomCrop`.
        test_transform: Of test images; by default :class:`CentreCrop`.

    Raises:
        DataError: As of ``load_folder``; of an unreadable image when it is asked for.
        RequestError: ``size`` out of range.
    """
    if not 1 <= size <= _MAX_SIZE:
        raise RequestError(f"size={shown(size)}; give 1 to {_MAX_SIZE} pixels")
    train, test, classes = listed(path)
    return FolderSplit(
        train=FolderImages(*train, transform or RandomCrop(size=size)),
        test=FolderImages(*test, test_transform or CentreCrop(size=size)),
        classes=classes,
    )


@dataclass(frozen=True, kw_only=True)
class RandomCrop:
    """A random part of an image at the size asked for, mirrored half of the time; normalised as ImageNet is.

    The part has 8 to 100 % of the area and sides in a ratio of 3:4 to 4:3, as in Szegedy et al. (2015) and
    every ImageNet recipe since; of ten draws the first that fits, else the centre.

    Args:
        size: Side of the result in pixels.

    Example:
        >>> RandomCrop(size=8)(Image.new("RGB", (20, 12))).shape
        torch.Size([3, 8, 8])
    """

    size: int

    def __call__(self, image: Image.Image) -> Tensor:
        """An image in RGB to float32 (3, size, size)."""
        box = self._box(*image.size)
        cut = image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=box)
        return _normalised(cut, mirrored=bool(torch.rand(()) < 0.5))

    def _box(self, width: int, height: int) -> tuple[int, int, int, int]:
        for _ in range(_TRIES):
            area = width * height * _uniform(*_AREA)
            ratio = math.exp(_uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
            wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < wide <= width and 0 < high <= height:
                left = int(torch.randint(width - wide + 1, ()))
                top = int(torch.randint(height - high + 1, ()))
                return left, top, left + wide, top + high
        # A ribbon: the largest part of its middle whose sides are in an allowed ratio.
        wide = min(width, round(height * _RATIO[1]))
        high = min(height, round(width / _RATIO[0]))
        left, top = (width - wide) // 2, (height - high) // 2
        return left, top, left + wide, top + high


@dataclass(frozen=True, kw_only=True)
class CentreCrop:
    """The centre of an image whose shorter side is 8/7 of the size asked for; normalised as ImageNet is.

    256 to 224, that is, as ImageNet's figures are taken everywhere.

    Args:
        size: Side of the result in pixels.

    Example:
        >>> CentreCrop(size=7)(Image.new("RGB", (20, 12))).shape
        torch.Size([3, 7, 7])
    """

    size: int

    def __call__(self, image: Image.Image) -> Tensor:
        """An image in RGB to float32 (3, size, size)."""
        # The cut comes first: the whole of a long image, resized, could be of any size.
        side = min(image.size) * self.size / round(self.size * 8 / 7)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = (left, top, left + side, top + side)
        return _normalised(image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=box))


def _normalised(image: Image.Image, mirrored: bool = False) -> Tensor:
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    x = (pixels.flip(2) if mirrored else pixels).to(torch.float32).div_(255)
    return x.sub_(torch.tensor(MEAN).view(3, 1, 1)).div_(torch.tensor(STD).view(3, 1, 1))


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), dtype=torch.float64))
