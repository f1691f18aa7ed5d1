"""The header of a safetensors file, bounded and checked against the file's own length before it is believed.

Eight bytes of length, a JSON header ``{name: {dtype, shape, data_offsets}, "__metadata__": …}``, then the
tensors back to back. A reader that has looked at the header here takes memory for what the file really holds.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from espalier._ground.documents import parse_json
from espalier._ground.reading import opened
from espalier.errors import CheckpointError, shown

MAX_HEADER = 1 << 25
"""Bytes a header may have; the kept indices of the largest models need a few million."""

_MAX_DIMENSIONS = 64
_MAX_NAME = 512
_LIMIT = 1 << 62
_BYTES = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ", "F8_E8M0"), 1),
}


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """A tensor as the header describes it.

    Attributes:
        dtype: In safetensors' words: ``F32``, ``BF16``, ``I64`` …
        shape: Its shape.
        begin: Its first byte, counted from the end of the header.
        end: One past its last.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Header:
    """A checked header: the tensors, the texts that go with them, and where the data begin."""

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    start: int


def read_header(path: str | os.PathLike[str]) -> Header:
    """The header, with every statement of it checked against the file's size.

    At most ``MAX_HEADER`` bytes are read, and the tensors tile the rest of the file.

    Raises:
        CheckpointError: Not a safetensors file, cut short, or a header that cannot be true; the message does
            not name the file.
        OSError: The file cannot be read, or is no regular file.
    """
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(9)
        length = int.from_bytes(start[:8], "little")
        if start[8:] != b"{" or length > MAX_HEADER:
            claim = f" (its header claims {length:,} bytes)" if start[8:] == b"{" else ""
            raise CheckpointError(
                f"it is not a safetensors file: no header at its beginning{claim}"
            )
        if 8 + length > size:
            raise CheckpointError(f"it is cut short: {size} bytes of at least {8 + length}")
        raw = start[8:] + file.read(length - 1) if length else b""
    try:
        entries = parse_json(raw.decode(), MAX_HEADER)
    except UnicodeDecodeError as error:
        raise CheckpointError("its header is not UTF-8 text") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"its header is not JSON: {error!s:.200}") from error
    if not isinstance(entries, dict):
        raise CheckpointError("it is not a safetensors file: its header is no object")
    metadata = entries.pop("__metadata__", {})
    if not (isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values())):
        raise CheckpointError("its metadata are not texts by name")
    tensors = {name: _info(name, entry) for name, entry in entries.items()}
    _check_layout(tensors, size - 8 - length)
    return Header(tensors=tensors, metadata=metadata, start=8 + length)


def read_tensors(
    path: str | os.PathLike[str], names: Iterable[str] | None = None
) -> dict[str, Tensor]:
    """Tensors of a safetensors file, on the CPU, in memory of their own.

    Args:
        path: The file.
        names: Which; those that it does not hold are left out. None for all.

    Raises:
        CheckpointError, OSError: As :func:`read_header`.
    """
    there = read_header(path).tensors
    wanted = sorted(there) if names is None else [name for name in names if name in there]
    try:
        with safe_open(path, framework="pt") as file:
            return {
                name: file.get_tensor(name).clone(memory_format=torch.contiguous_format)
                for name in wanted
            }
    except (SafetensorError, RuntimeError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"its tensors cannot be read: {error!s:.200}") from error


def count(value: object, where: str) -> int:
    """A non-negative integer that fits in 62 bits, or a refusal."""
    if type(value) is not int or not 0 <= value < _LIMIT:
        raise CheckpointError(f"{where} must be a count, 0 or more, and is {shown(value)}")
    return value


def plain_name(value: object, where: str) -> str:
    """A string that can be shown to a person and is as short as a name, or a refusal."""
    if not isinstance(value, str) or len(value) > _MAX_NAME or not value.isprintable():
        raise CheckpointError(f"{where} must be a plain name, and is {shown(value)}")
    return value


def _info(name: str, entry: object) -> TensorInfo:
    plain_name(name, "the name of a tensor")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"{name!r}: a tensor is described by dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BYTES:
        raise CheckpointError(f"{name!r}: unknown dtype {shown(dtype)}")
    if not isinstance(shape, list) or len(shape) > _MAX_DIMENSIONS:
        raise CheckpointError(f"{name!r}: not a shape: {shown(shape)}")
    if not isinstance(offsets, list) or len(offsets) != 2:
        raise CheckpointError(f"{name!r}: data_offsets are two numbers")
    begin, end = (count(offset, f"{name!r}: an offset") for offset in offsets)
    sizes = tuple(count(n, f"{name!r}: a size") for n in shape)
    if prod(max(n, 1) for n in sizes) >= _LIMIT or prod(sizes) * _BYTES[dtype] != end - begin:
        raise CheckpointError(
            f"{name!r}: {dtype} of shape {shown(sizes)} does not fill bytes {begin} to {end}"
        )
    return TensorInfo(dtype=dtype, shape=sizes, begin=begin, end=end)


def _check_layout(tensors: Mapping[str, TensorInfo], size: int) -> None:
    """The tensors tile the data: none overlaps another, none lies outside, nothing is left over."""
    at, last = 0, "the header"
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if info.begin != at:
            word = "overlaps" if info.begin < at else "leaves a gap after"
            raise CheckpointError(f"{name!r} {word} {last!r} in the file")
        at, last = info.end, name
    if at > size:
        raise CheckpointError(f"it is cut short: {size} bytes of weights where {at} should be")
    if at < size:
        raise CheckpointError(f"{size - at} bytes follow the last tensor and belong to nothing")
