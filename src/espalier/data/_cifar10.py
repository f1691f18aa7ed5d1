"""CIFAR-10 in its binary version: six files of 10,000 records."""

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from espalier._ground.reading import opened
from espalier.data._image_set import ImageSet, Split
from espalier.errors import DataError

FOLDER = "cifar-10-batches-bin"
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILE = "test_batch.bin"
CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
RECORD = 1 + 3 * 32 * 32  # bytes: the label, then the red, green and blue plane


def load_cifar10(path: str | Path, records: int = 10_000) -> Split:
    """CIFAR-10 from the binary version's folder, or from the folder that holds it.

    Args:
        path: ``cifar-10-batches-bin`` itself, or its parent.
        records: Images that each file must hold; other than 10,000 only for cut-down copies.

    Returns:
        uint8 images (N, 3, 32, 32), normalised by mean (0.4914, 0.4822, 0.4465) and standard
        deviation (0.2023, 0.1994, 0.2010).

    Raises:
        DataError: A file is missing, of the wrong length, or holds a label above 9; the message
            names the file, the record and the byte.

    Source: Krizhevsky 2009; www.cs.toronto.edu/~kriz/cifar.html, "Binary version".
    """
    folder = _find(Path(path))
    train = [read_batch(folder / name, records) for name in TRAIN_FILES]
    test_images, test_labels = read_batch(folder / TEST_FILE, records)
    return Split(
        train=_image_set(
            torch.cat([images for images, _ in train]), torch.cat([labels for _, labels in train])
        ),
        test=_image_set(test_images, test_labels),
    )


def read_batch(path: str | Path, records: int = 10_000) -> tuple[Tensor, Tensor]:
    """Images (records, 3, 32, 32) uint8 and labels (records,) int64 of one file, a regular one.

    A file of another length than ``records`` say is not read.

    Raises:
        DataError: As for :func:`load_cifar10`.
    """
    expected = records * RECORD
    try:
        with opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            content = file.read(expected) if size == expected else b""
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if size != expected or len(content) != expected:
        raise DataError(
            f"{path}: byte {min(size, expected)}: expected {expected} bytes ({records} "
            f"records of {RECORD}), got {size} ({size / RECORD:.3f} records)"
        )
    rows = np.frombuffer(content, dtype=np.uint8).reshape(records, RECORD)
    wrong = np.flatnonzero(rows[:, 0] > 9)
    if len(wrong):
        at = int(wrong[0])
        raise DataError(
            f"{path}: byte {at * RECORD}: label {rows[at, 0]} of record {at}, expected 0 to 9"
        )
    images = torch.from_numpy(rows[:, 1:].reshape(records, 3, 32, 32).copy())
    return images, torch.from_numpy(rows[:, 0].astype(np.int64))


def _image_set(images: Tensor, labels: Tensor) -> ImageSet:
    return ImageSet(images=images, labels=labels, classes=CLASSES, mean=MEAN, std=STD)


def _find(path: Path) -> Path:
    names = (*TRAIN_FILES, TEST_FILE)
    folders = (path, path / FOLDER)
    for folder in folders:
        if any((folder / name).is_file() for name in names):
            absent = [name for name in names if not (folder / name).is_file()]
            if absent:
                raise DataError(f"{folder}: {', '.join(absent)} missing; expected all six files")
            return folder
    expected = f"expected {FOLDER}/ with {', '.join(names)}"
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; {expected}")
    raise DataError(f"{path}: no CIFAR-10 batches in it; {_what_is_there(path) or expected}")


def _what_is_there(path: Path) -> str | None:
    """What to do about a form of CIFAR-10 that is there but is not the binary version."""
    if any(path.glob("*avif*.tar*")):
        script = path / "unpack_cifar10.py"
        return f"it holds the AVIF archive: run `python {script} CACHE_DIR`, then give CACHE_DIR"
    for archive in sorted(path.glob("cifar-10-binary.tar*")):
        return f"unpack the archive first: `tar -xf {archive} -C {path}`"
    if (path / "cifar-10-batches-py").is_dir() or (path / "data_batch_1").is_file():
        return (
            "this is the Python version, which is pickled and so is never opened; get the binary "
            "version, cifar-10-binary.tar.gz"
        )
    return None
