"""MNIST in its own format: four IDX files, raw or gzipped."""

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from espalier._ground.reading import opened
from espalier.data._image_set import ImageSet, Split
from espalier.errors import DataError

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
MEAN, STD = (0.1307,), (0.3081,)
MAX_BYTES = 1 << 30
"""Bytes of one file, unpacked."""

_UBYTE = 0x08  # the IDX type code of unsigned bytes
_MOST_DEFLATED = 1032  # bytes that one byte of a deflated stream can stand for
_CHUNK = 1 << 20


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
    """The array of unsigned bytes in one IDX file, a regular one.

    At most ``MAX_BYTES`` are read, and of a gzip stream no more than its header claims and its length can hold.

    Args:
        path: The file; gzip is recognised by its first two bytes, not by its name.
        dims: The number of dimensions that it must have.

    Returns:
        uint8 tensor of the shape that the header states.

    Raises:
        DataError: Wrong magic number, wrong length, larger than that, or a broken gzip stream.
    """
    try:
        with opened(path, MAX_BYTES) as file:
            size = os.fstat(file.fileno()).st_size
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not packed:
                return _array(path, file, dims, size, size)
            with gzip.open(file) as stream:
                return _array(path, stream, dims, size * _MOST_DEFLATED, None)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path}: the gzip stream is broken within its {size} bytes ({error}); get the file again"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _array(
    path: str | Path, stream: IO[bytes] | gzip.GzipFile, dims: int, most: int, size: int | None
) -> Tensor:
    """The array; the stream has at most ``most`` bytes, and exactly ``size`` where that is known."""
    header = 4 + 4 * dims
    start = stream.read(header)
    expected = bytes((0, 0, _UBYTE, dims))
    if start[:4] != expected:
        raise DataError(
            f"{path}: byte 0: magic number {start[:4].hex() or 'absent'}, expected "
            f"{expected.hex()} (IDX, unsigned bytes, {dims} dimensions)"
        )
    if len(start) < header:
        raise DataError(
            f"{path}: byte {len(start)}: the file ends inside its header: expected at least "
            f"{header} bytes, got {len(start)}"
        )
    shape = struct.unpack(f">{dims}I", start[4:])
    length = math.prod(shape)
    if not 0 < length <= MAX_BYTES:
        raise DataError(f"{path}: byte 4: shape {shape}; 1 to {MAX_BYTES:,} bytes are read")
    if length > most:
        got = (
            f"got {most}"
            if size is not None
            else f"a gzip stream of this length holds {most} at most"
        )
        raise DataError(
            f"{path}: byte {min(most, header + length)}: expected {header + length} bytes for shape "
            f"{shape}, {got}"
        )
    content = bytearray()
    while len(content) < length and (chunk := stream.read(min(_CHUNK, length - len(content)))):
        content += chunk
    more = len(stream.read(1))  # of what is too long no more is read
    if len(content) != length or more:
        whole = header + len(content) if size is None else size
        raise DataError(
            f"{path}: byte {header + len(content)}: expected {header + length} bytes for shape {shape}, "
            f"got {whole}{' and more' if size is None and more else ''}"
        )
    return torch.frombuffer(content, dtype=torch.uint8).reshape(shape)
