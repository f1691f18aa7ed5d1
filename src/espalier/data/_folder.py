"""Images in folders named for their classes."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from espalier._ground.reading import opened
from espalier.data._image_set import ImageSet, Split
from espalier.errors import DataError, RequestError, shown

SUFFIXES = (".jpg", ".jpeg", ".png")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MAX_PIXELS = 50_000_000
"""Pixels of an image that is read."""

_MAX_SIZE = 1 << 14
_TEST_NAMES = ("test", "val")


def load_folder(path: str | Path, size: int = 224) -> Split:
    """Colour images from ``train/<class>/*.jpg|jpeg|png`` and ``test/`` or ``val/`` likewise.

    The shorter side is resized to ``size`` (bilinear, antialiased), then the centre is cut out. All
    images are held in memory, 3·size² bytes each.

    Args:
        path: The folder that holds ``train``.
        size: Side of the returned images in pixels, 1 to 16,384.

    Returns:
        uint8 images (N, 3, size, size) sorted by class and file name, normalised by ImageNet's mean
        and standard deviation. Classes are the names of the folders in ``train``, sorted.

    Raises:
        DataError: A folder or its images are missing, a class is in the test part alone, or an
            image cannot be read, or has more than ``MAX_PIXELS``; the message names it.
        RequestError: ``size`` out of range.
    """
    if not 1 <= size <= _MAX_SIZE:
        raise RequestError(f"size={shown(size)}; give 1 to {_MAX_SIZE} pixels")
    train, test, classes = listed(path)
    return Split(train=_read(*train, classes, size), test=_read(*test, classes, size))


Files = tuple[list[Path], list[int]]
"""Images, and the class of each."""


def listed(path: str | Path) -> tuple[Files, Files, tuple[str, ...]]:
    """The files for training and for test, sorted by class and name, and the classes.

    Raises:
        DataError: A folder or its images are missing, or a class is in the test part alone.
    """
    root = Path(path)
    expected = "expected train/<class>/*.jpg|jpeg|png, and test/ or val/ likewise"
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; {expected}")
    train = root / "train"
    test = next((root / name for name in _TEST_NAMES if (root / name).is_dir()), None)
    if not train.is_dir() or test is None:
        absent = "train/" if not train.is_dir() else "test/ or val/"
        raise DataError(f"{root}: no {absent} in it; {expected}")
    classes = tuple(folder.name for folder in _class_folders(train))
    for folder in _class_folders(test):
        if folder.name not in classes:
            raise DataError(f"{folder}: class {folder.name!r} is not in {train}")
    return _files(train, classes), _files(test, classes), classes


def _class_folders(part: Path) -> list[Path]:
    folders = sorted(entry for entry in part.iterdir() if entry.is_dir())
    if not folders:
        raise DataError(f"{part}: no folders in it; expected one a class")
    return folders


def _files(part: Path, classes: tuple[str, ...]) -> Files:
    files: list[Path] = []
    labels: list[int] = []
    for folder in _class_folders(part):
        found = sorted(entry for entry in folder.iterdir() if entry.suffix.lower() in SUFFIXES)
        if not found:
            raise DataError(f"{folder}: no images in it; expected {', '.join(SUFFIXES)} files")
        files += found
        labels += [classes.index(folder.name)] * len(found)
    return files, labels


def _read(files: list[Path], labels: list[int], classes: tuple[str, ...], size: int) -> ImageSet:
    # Filled in place: a list that is stacked at the end would take the memory twice.
    images = np.empty((len(files), 3, size, size), dtype=np.uint8)
    for index, file in enumerate(files):
        images[index] = _cropped(read_image(file), size).transpose(2, 0, 1)
    return ImageSet(
        images=torch.from_numpy(images),
        labels=torch.tensor(labels),
        classes=classes,
        mean=MEAN,
        std=STD,
    )


def read_image(file: Path) -> Image.Image:
    """One image of at most ``MAX_PIXELS`` pixels, in RGB.

    Raises:
        DataError: It cannot be read, or is larger.
    """
    try:
        # These two formats and no other: Pillow would hand a PostScript file to Ghostscript, by its content.
        with opened(file) as raw, Image.open(raw, formats=("PNG", "JPEG")) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise DataError(
                    f"{file}: {picture.width}×{picture.height} pixels, and at most {MAX_PIXELS:,} are "
                    "read; make it smaller"
                )
            return picture.convert("RGB")
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"{file}: not a readable image: neither PNG nor JPEG") from error
    # Pillow reports a broken image by almost any exception, by its format and by the kind of damage.
    except Exception as error:
        raise DataError(f"{file}: not a readable image: {error!s:.200}") from error


def _cropped(image: Image.Image, size: int) -> np.ndarray:
    """The centre of an image whose shorter side is made ``size``, as uint8 (size, size, 3)."""
    width, height = image.size
    shorter = min(width, height)
    if shorter == size:
        left, top = (width - size) // 2, (height - size) // 2
        return np.asarray(image.crop((left, top, left + size, top + size)))
    # The cut comes first: the whole of a long image, resized, could be of any size.
    wide, high = (max(size, round(side * size / shorter)) for side in (width, height))
    across, down = width / wide, height / high
    x, y = (wide - size) // 2 * across, (high - size) // 2 * down
    box = (x, y, min(width, x + size * across), min(height, y + size * down))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))
