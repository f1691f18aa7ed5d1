"""The inverse of encoding: a tensor from its streams, with every number checked."""

from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from espalier.errors import CheckpointError
from espalier.packing import _fields as fields
from espalier.packing._coder import Reader
from espalier.packing._positions import Positions, code_positions, from_gaps
from espalier.packing._record import Code, Kind, Record
from espalier.packing._values import (
    Patterns,
    code_planes,
    code_symbols,
    level_patterns,
    pattern_type,
    tensor_of,
)


def raw_lengths(record: Record) -> tuple[int, int, int]:
    """Bytes of fixed width that a tensor takes: its codebook, its positions, its values."""
    width = pattern_type(record.dtype).itemsize
    if record.code == Code.COPY:
        return 0, 0, 0
    book = {Kind.RAW: 0, Kind.TABLE: record.size * width, Kind.LEVELS: width}[record.kind]
    index = {
        Code.BITMASK: fields.length(record.entries, 1),
        Code.GAPS: fields.length(record.nonzero + record.padding, record.gap_bits),
    }.get(record.code, 0)
    bits = 8 * width if record.kind == Kind.RAW else (_alphabet(record) - 1).bit_length()
    return book, index, 0 if record.coded else fields.length(record.nonzero, bits)


def decoded(record: Record, raw: bytes, reader: Reader) -> Tensor:
    """The tensor.

    Args:
        record: Not a copy.
        raw: Its bytes of fixed width, as many as :func:`raw_lengths` says.
        reader: Stands where its symbols begin.

    Raises:
        CheckpointError: The streams do not hold what the record says.
    """
    ends = accumulate(raw_lengths(record), initial=0)
    book, index, data = (raw[a:b] for a, b in pairwise(ends))
    positions = _positions(record, index, reader)
    values = _values(record, book, data, reader)
    # What PyTorch does with another byte in a tensor of truth values is undefined.
    if record.dtype == torch.bool and len(values) and values.max() > 1:
        raise CheckpointError(f"{record.name!r}: a truth value that is neither 0 nor 1")
    if positions is None:
        return tensor_of(values, record.dtype, record.shape)
    found = np.zeros(record.entries, pattern_type(record.dtype))
    found[positions] = values
    return tensor_of(found, record.dtype, record.shape)


def _positions(record: Record, raw: bytes, reader: Reader) -> Positions | NDArray[np.bool_] | None:
    """Where the values go, as indices or as a mask; None: everywhere."""
    if record.code == Code.DENSE:
        return None
    found: Positions | NDArray[np.bool_]
    if record.code == Code.GAPS:
        size = record.nonzero + record.padding
        found = from_gaps(fields.from_bytes(raw, size, record.gap_bits), record.gap_bits)
        if len(found) and found[-1] >= record.entries:
            raise CheckpointError(f"{record.name!r}: a nonzero outside of the tensor")
        number = len(found)
    else:
        # A mask stays a mask: an index would take eight times the memory, and coded ones cost next to nothing.
        if record.code == Code.BITMASK:
            bits = np.frombuffer(raw, np.uint8)
            mask: NDArray[Any] = np.unpackbits(bits, count=record.entries, bitorder="little")
        else:
            mask = code_positions(reader, record.shape, record.nonzero, record.spread)
        found = mask.astype(np.bool_)
        number = int(np.count_nonzero(found))
    if number != record.nonzero:
        raise CheckpointError(
            f"{record.name!r}: {number} nonzeros where {record.nonzero} should be"
        )
    return found


def _values(record: Record, book: bytes, raw: bytes, reader: Reader) -> Patterns:
    own = pattern_type(record.dtype)
    little = own.newbyteorder("<")
    if record.kind == Kind.RAW:
        if record.coded:
            raw = code_planes(reader, own.itemsize, record.nonzero).tobytes()
        return np.frombuffer(raw, little).astype(own)
    size = _alphabet(record)
    if record.coded:
        symbols: NDArray[Any] = code_symbols(reader, size, record.nonzero)
    else:
        width = (size - 1).bit_length()
        symbols = fields.from_bytes(raw, record.nonzero, width)
    if len(symbols) and symbols.max() >= size:
        raise CheckpointError(f"{record.name!r}: a value that its codebook does not have")
    entries: Patterns = np.frombuffer(book, little).astype(own)
    if record.kind == Kind.LEVELS:
        entries = level_patterns(entries, record.dtype, record.size)
    found: Patterns = entries[symbols]
    return found


def _alphabet(record: Record) -> int:
    return 2 * record.size if record.kind == Kind.LEVELS else record.size
