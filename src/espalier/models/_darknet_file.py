"""Files of darknet's own format, such as ``yolov3-tiny.weights``: a header, then float32 after float32."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from espalier._ground.reading import read_bytes
from espalier.errors import CheckpointError
from espalier.models._yolo import Convolution, Darknet

SUFFIX = ".weights"
_VERSION = struct.Struct("<3i")


def load_darknet(model: Darknet, path: str | os.PathLike[str]) -> None:
    """Copy a darknet file into ``model``, all of it or nothing.

    Layer by layer a file holds, for BatchNorm: β, γ, running mean, running variance; else the bias; then the
    convolution's weight. No more bytes are read than the model needs.

    Args:
        model: Changed in place.
        path: The file.

    Raises:
        CheckpointError: It cannot be read, is of another version, or its length is not the model's.

    Source: darknet's ``parser.c``, ``load_convolutional_weights``.
    """
    places = list(_places(model))
    floats = sum(place.numel() for place in places)
    try:
        content = read_bytes(path, 4 * floats + 64)  # the longest header has 20
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read: {error.strerror}; a file of this network has {4 * floats:,} "
            "bytes of weights"
        ) from error
    if len(content) < _VERSION.size:
        raise CheckpointError(f"{path}: {len(content)} bytes, shorter than the header")
    major, minor, _ = _VERSION.unpack_from(content)
    if not (0 <= major <= 1000 and 0 <= minor <= 1000):
        raise CheckpointError(f"{path}: version {major}.{minor}: not a darknet file")
    # How many images were seen is counted in 64 bits since version 0.2.
    start = _VERSION.size + (8 if 10 * major + minor >= 2 else 4)
    if len(content) != start + 4 * floats:
        raise CheckpointError(
            f"{path}: {len(content):,} bytes where {start + 4 * floats:,} are this network's; another "
            "network, another number of classes, or cut short"
        )
    values = torch.frombuffer(bytearray(content[start:]), dtype=torch.float32)
    if not bool(values.isfinite().all()):
        raise CheckpointError(f"{path}: holds values that are not finite")
    with torch.no_grad():
        parts = torch.split(values, [place.numel() for place in places])
        for place, part in zip(places, parts, strict=True):
            place.copy_(part.view_as(place))


def is_darknet(path: Path) -> bool:
    """By its name."""
    return path.suffix == SUFFIX


def _places(model: Darknet) -> Iterator[Tensor]:
    """The tensors in the order of the file."""
    for layer in model.module_list:
        if not isinstance(layer, Convolution):
            continue
        if hasattr(layer, "BatchNorm2d"):
            norm = layer.BatchNorm2d
            yield from (norm.bias, norm.weight, norm.running_mean, norm.running_var)  # type: ignore[misc]
        else:
            assert layer.Conv2d.bias is not None
            yield layer.Conv2d.bias
        yield layer.Conv2d.weight
