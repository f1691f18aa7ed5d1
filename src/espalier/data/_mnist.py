"""MNIST in its own format: four IDX files, raw or gzipped."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from espalier.data._image_set import ImageSet, Split
from espalier.errors import DataError

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
MEAN, STD = (0.1307,), (0.3081,)
_UBYTE = 0x08  # the IDX type code of unsigned bytes


def load_mnist(path: str | Path) -> Split:
    """MNIST (or any set in its format, such as Fashion-MNIST) from a folder of IDX files.

    Args:
        path: The folder of ``train-images-idx3-ubyte`` and the other three, each raw or ``.gz``.

    Returns:
        uint8 images (N, 1, 28, 28), normalised by mean 0.1307 and standard deviation 0.3081.

    Raises:
        DataError: A file is missing, cut short, too long or not IDX, or holds a label above 9; the
            message names the file and the byte.

    Source: LeCun, Cortes & Burges, "The MNIST database", section "File formats".
    """
    folder = Path(path)
    return Split(train=_read_set(folder, "train"), test=_read_set(folder, "test"))


def _read_set(folder: Path, part: str) -> ImageSet:
    images_at, labels_at = (_find(folder, name) for name in FILES[part])
    images, labels = read_idx(images_at, dims=3), read_idx(labels_at, dims=1)
    if len(images) != len(labels):
        raise DataError(f"{images_at} holds {len(images)} images, {labels_at} {len(labels)} labels")
    wrong = (labels > 9).nonzero()
    if len(wrong):
        at = int(wrong[0])
        raise DataError(
            f"{labels_at}: byte {8 + at}: label {int(labels[at])} of record {at}, expected 0 to 9"
        )
    return ImageSet(
        images=images.unsqueeze(1),
        labels=labels.long(),
        classes=tuple(str(digit) for digit in range(10)),
        mean=MEAN,
        std=STD,
    )


def _find(folder: Path, name: str) -> Path:
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    expected = ", ".join(f"{file}[.gz]" for files in FILES.values() for file in files)
    what = f"no {name} or {name}.gz in it" if folder.is_dir() else "no such folder"
    raise DataError(f"{folder}: {what}; expected the MNIST files {expected}")


def read_idx(path: str | Path, dims: int) -> Tensor:
    """The array of unsigned bytes in one IDX file.

    Args:
        path: The file; gzip is recognised by its first two bytes, not by its name.
        dims: The number of dimensions that it must have.

    Returns:
        uint8 tensor of the shape that the header states.

    Raises:
        DataError: Wrong magic number, wrong length, or a broken gzip stream.
    """
    content = _content(Path(path))
    header = 4 + 4 * dims
    expected = bytes((0, 0, _UBYTE, dims))
    if content[:4] != expected:
        raise DataError(
            f"{path}: byte 0: magic number {content[:4].hex() or 'absent'}, expected "
            f"{expected.hex()} (IDX, unsigned bytes, {dims} dimensions)"
        )
    if len(content) < header:
        raise DataError(
            f"{path}: byte {len(content)}: the file ends inside its header: expected at least "
            f"{header} bytes, got {len(content)}"
        )
    shape = struct.unpack(f">{dims}I", content[4:header])
    length = header + math.prod(shape)
    if len(content) != length:
        raise DataError(
            f"{path}: byte {min(len(content), length)}: expected {length} bytes for shape {shape}, "
            f"got {len(content)}"
        )
    # The bytes belong to a read-only buffer, of which PyTorch would warn; hence the copy below.
    array = np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)
    return torch.from_numpy(array.copy())


def _content(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if raw[:2] != b"\x1f\x8b":
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(
            f"{path}: the gzip stream is broken within its {len(raw)} bytes ({error}); "
            "get the file again"
        ) from error
