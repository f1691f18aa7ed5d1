"""Images in folders named for their classes."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from espalier.data._image_set import ImageSet, Split
from espalier.errors import DataError, RequestError

SUFFIXES = (".jpg", ".jpeg", ".png")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_TEST_NAMES = ("test", "val")


def load_folder(path: str | Path, size: int = 224) -> Split:
    """Colour images from ``train/<class>/*.jpg|jpeg|png`` and ``test/`` or ``val/`` likewise.

    The shorter side is resized to ``size`` (bilinear, antialiased), then the centre is cut out. All
    images are held in memory, 3·size² bytes each.

    Args:
        path: The folder that holds ``train``.
        size: Side of the returned images in pixels, ≥ 1.

    Returns:
        uint8 images (N, 3, size, size) sorted by class and file name, normalised by ImageNet's mean
        and standard deviation. Classes are the names of the folders in ``train``, sorted.

    Raises:
        DataError: A folder or its images are missing, a class is in the test part alone, or an
            image cannot be read; the message names it.
        RequestError: ``size`` < 1.
    """
    if size < 1:
        raise RequestError(f"size={size}; give at least 1 pixel")
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
    return Split(train=_read(train, classes, size), test=_read(test, classes, size))


def _class_folders(part: Path) -> list[Path]:
    folders = sorted(entry for entry in part.iterdir() if entry.is_dir())
    if not folders:
        raise DataError(f"{part}: no folders in it; expected one a class")
    return folders


def _read(part: Path, classes: tuple[str, ...], size: int) -> ImageSet:
    files: list[tuple[Path, int]] = []
    for folder in _class_folders(part):
        found = sorted(entry for entry in folder.iterdir() if entry.suffix.lower() in SUFFIXES)
        if not found:
            raise DataError(f"{folder}: no images in it; expected {', '.join(SUFFIXES)} files")
        files += [(file, classes.index(folder.name)) for file in found]
    # Filled in place: a list that is stacked at the end would take the memory twice.
    images = np.empty((len(files), 3, size, size), dtype=np.uint8)
    for index, (file, _) in enumerate(files):
        images[index] = _read_image(file, size).transpose(2, 0, 1)
    return ImageSet(
        images=torch.from_numpy(images),
        labels=torch.tensor([label for _, label in files]),
        classes=classes,
        mean=MEAN,
        std=STD,
    )


def _read_image(file: Path, size: int) -> np.ndarray:
    """One image as uint8 (size, size, 3)."""
    try:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
    # Pillow reports a broken image by any of these, by its format and by the kind of damage.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(f"{file}: not a readable image: {error}") from error
    width, height = image.size
    shorter = min(width, height)
    if shorter != size:
        width, height = (max(size, round(side * size / shorter)) for side in (width, height))
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))
