"""The file around the document: a safetensors header, bounded and checked before it is believed.

Eight bytes of length, a JSON header ``{name: {dtype, shape, data_offsets}, "__metadata__": …}``,
then the tensors back to back. The metadata hold one key, because the order of several is not the
same in every process and an artefact's bytes are to be.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from espalier.errors import CheckpointError, EspalierError

KEY = "espalier"
"""The key of the document in the metadata."""

MAX_HEADER = 1 << 25
"""Bytes a header may have; the kept indices of the largest models need a few million."""

_MAX_DEPTH = 32
_MAX_CONTAINERS = 1 << 18  # three per tensor, two per edit
_MAX_DIMENSIONS = 64
_MAX_NAME = 512
_LIMIT = 1 << 62
_CHUNK = 1 << 20
_BYTES = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ", "F8_E8M0"), 1),
}
# Strings are matched whole, so that brackets inside of them are not counted; the quantifiers are
# possessive, so that no string makes the search go back and take quadratic time.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


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
    """A checked header: the tensors, the document as text, and where the data begin."""

    tensors: Mapping[str, TensorInfo]
    document: str
    start: int


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Whatever is wrong with the file inside becomes one ``CheckpointError`` that names it."""
    try:
        yield
    except EspalierError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error


def count(value: object, where: str) -> int:
    """A non-negative integer that fits in 62 bits, or a refusal."""
    if type(value) is not int or not 0 <= value < _LIMIT:
        raise CheckpointError(f"{where} must be a count, 0 or more, and is {_short(value)}")
    return value


def plain_name(value: object, where: str) -> str:
    """A string that can be shown to a person and is as short as a name, or a refusal."""
    if not isinstance(value, str) or len(value) > _MAX_NAME or not value.isprintable():
        raise CheckpointError(f"{where} must be a plain name, and is {_short(value)}")
    return value


def bounded_json(text: str, what: str) -> Any:
    """Parse JSON that may come from a stranger: size, depth and doubled keys are checked.

    Raises:
        CheckpointError: Too long, too deep, too many parts, not JSON, or a key given twice.
    """
    if len(text) > MAX_HEADER:
        raise CheckpointError(f"{what} is too large: {len(text)} characters, {MAX_HEADER} allowed")
    depth = containers = 0
    for token in _TOKEN.finditer(text):
        kind = text[token.start()]
        if kind in "[{":
            depth, containers = depth + 1, containers + 1
            if depth > _MAX_DEPTH or containers > _MAX_CONTAINERS:
                raise CheckpointError(f"{what} is nested too deep or has too many parts")
        elif kind in "]}":
            depth -= 1
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{what} is not JSON: {_short(str(error))}") from error


def read_header(path: Path) -> Header:
    """The header of an artefact, with every statement of it checked against the file's size.

    Raises:
        CheckpointError: Not an artefact, cut short, or a header that cannot be true.
        OSError: The file cannot be read.
    """
    if path.exists() and not path.is_file():
        raise CheckpointError("it is not a file; an artefact is one file")
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        start = file.read(9)
        length = int.from_bytes(start[:8], "little")
        if len(start) < 9 or start[8:] != b"{":
            raise CheckpointError("it is not an artefact: no safetensors header at its beginning")
        if length > MAX_HEADER:
            raise CheckpointError(f"its header claims {length} bytes, {MAX_HEADER} allowed")
        if 8 + length > size:
            raise CheckpointError(f"it is cut short: {size} bytes, the header alone {8 + length}")
        raw = start[8:] + file.read(length - 1) if length else b""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise CheckpointError("its header is not UTF-8 text") from error
    entries = bounded_json(text, "the header")
    metadata = entries.pop("__metadata__", {}) if isinstance(entries, dict) else None
    document = metadata.get(KEY) if isinstance(metadata, dict) else None
    if not isinstance(document, str):
        raise CheckpointError("it may be a safetensors file, but it is not an artefact")
    tensors = {name: _info(name, entry) for name, entry in entries.items()}
    _check_layout(tensors, size - 8 - length)
    return Header(tensors=tensors, document=document, start=8 + length)


def read_tensors(path: Path, header: Header, sha256: str) -> dict[str, Tensor]:
    """Every tensor, on the CPU, in memory of its own.

    Raises:
        CheckpointError: The data are not those the document was written for.
        OSError: The file cannot be read.
    """
    # Before any of it is interpreted: the parser gets no bytes that the document does not vouch
    # for.
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(header.start)
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != sha256:
        raise CheckpointError("its weights do not match their checksum: damaged or altered")
    try:
        with safe_open(path, framework="pt") as opened:
            return {
                name: opened.get_tensor(name).clone(memory_format=torch.contiguous_format)
                for name in sorted(header.tensors)
            }
    except (SafetensorError, RuntimeError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"its tensors cannot be read: {_short(str(error))}") from error


def _info(name: str, entry: object) -> TensorInfo:
    plain_name(name, "the name of a tensor")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"{name!r}: a tensor is described by dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BYTES:
        raise CheckpointError(f"{name!r}: unknown dtype {_short(dtype)}")
    if not isinstance(shape, list) or len(shape) > _MAX_DIMENSIONS:
        raise CheckpointError(f"{name!r}: not a shape: {_short(shape)}")
    if not isinstance(offsets, list) or len(offsets) != 2:
        raise CheckpointError(f"{name!r}: data_offsets are two numbers")
    begin, end = (count(offset, f"{name!r}: an offset") for offset in offsets)
    sizes = tuple(count(n, f"{name!r}: a size") for n in shape)
    if prod(max(n, 1) for n in sizes) >= _LIMIT or prod(sizes) * _BYTES[dtype] != end - begin:
        raise CheckpointError(
            f"{name!r}: {dtype} of shape {_short(sizes)} does not fill bytes {begin} to {end}"
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


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number")


def _short(value: object) -> str:
    """What a message quotes of a stranger's value."""
    if type(value) is int and abs(value) >= _LIMIT:
        return "an integer beyond all sizes"
    text = value if isinstance(value, str) else f"{value!r:.200}"
    return ascii(text[:80])[1:-1]
