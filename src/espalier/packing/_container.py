"""The file: three letters and a version, a checksum, the header, fixed-width bytes, coded symbols.

========= ====================================================================================
bytes     what
========= ====================================================================================
0–2       ``esp``
3         version, 1
4–7       CRC-32 of all that follows, little-endian
8–        header (:mod:`~espalier.packing._record`), deflated: it says where it ends
…         tensor by tensor: codebook, positions and values of fixed width, each from a full byte
          on; the header says how many bytes that is
…         everything entropy-coded (:mod:`~espalier.packing._coder`), to the end of the file
========= ====================================================================================
"""

import zlib
from collections.abc import Mapping, Sequence
from math import prod

import torch
from torch import Tensor

from espalier.errors import CheckpointError, RequestError
from espalier.packing._accounting import PackedTensor, Packing
from espalier.packing._coder import Reader, Recorder, available, encode
from espalier.packing._decoding import decoded, raw_lengths
from espalier.packing._encoding import MAX_ROWS, Encoded, encoded
from espalier.packing._positions import best_gap_bits, bound, matrix, padding
from espalier.packing._record import Code, Kind, Record, from_header, to_header
from espalier.packing._values import DTYPES, patterns

_MAGIC = b"esp"
_VERSION = 1
_START = 8
_FREE_ROWS = 1 << 12


def to_bytes(tensors: Mapping[str, Tensor]) -> tuple[bytes, Packing]:
    """The file of these tensors, and where each of its bits went.

    Raises:
        RequestError: A tensor that has no values, is sparse, or is of another dtype.
    """
    parts = _encoded(tensors)
    header = to_header([part.record for part in parts])
    raw = b"".join(part.book + part.index.raw + part.data.raw for part in parts)
    streams = [stream.coded or Recorder() for part in parts for stream in (part.index, part.data)]
    coded, taken = encode(streams)
    body = header + raw + coded
    content = _MAGIC + bytes([_VERSION]) + zlib.crc32(body).to_bytes(4, "little") + body
    rows = tuple(
        _account(part, index, data)
        for part, index, data in zip(parts, taken[::2], taken[1::2], strict=True)
    )
    header_bits = 8 * (_START + len(header))
    filling = 8 * len(content) - header_bits - sum(row.bits for row in rows)
    return content, Packing(
        tensors=rows, header_bits=header_bits, filling_bits=filling, file_bytes=len(content)
    )


def from_bytes(content: bytes, limit: int) -> dict[str, Tensor]:
    """The inverse of :func:`to_bytes`.

    Args:
        content: The whole file.
        limit: Bytes that the tensors may take in memory.

    Raises:
        CheckpointError: Not such a file, damaged, hostile, or larger than the limit.
        RequestError: It holds coded symbols and constriction is not installed.
    """
    if content[:3] != _MAGIC or len(content) <= _START:
        raise CheckpointError("it is not a packed model")
    if content[3] != _VERSION:
        raise CheckpointError(
            f"it has version {content[3]} and this Espalier reads {_VERSION}; "
            "use the Espalier that wrote it"
        )
    if zlib.crc32(content[_START:]).to_bytes(4, "little") != content[4:_START]:
        raise CheckpointError("it does not match its checksum: cut short, damaged or altered")
    # No tensor is made before the checksum, the sizes and the limit have been looked at: a few
    # bytes can claim one of any size.
    records, length = from_header(content[_START:])
    _check_sizes(records, len(content), limit)
    at = _START + length
    sizes = [sum(raw_lengths(record)) for record in records]
    if at + sum(sizes) > len(content):
        raise CheckpointError("it is cut short: its tensors need more than it holds")
    reader = Reader(content[at + sum(sizes) :])
    found: list[Tensor] = []
    for record, size in zip(records, sizes, strict=True):
        if record.code == Code.COPY:
            found.append(found[record.original].clone())
        else:
            found.append(decoded(record, content[at : at + size], reader))
        at += size
    reader.finish()
    return dict(zip((record.name for record in records), found, strict=True))


def _encoded(tensors: Mapping[str, Tensor]) -> list[Encoded]:
    entropy, rows = available(), MAX_ROWS
    parts: list[Encoded] = []
    seen: dict[tuple[object, ...], int] = {}
    for name, tensor in tensors.items():
        _check(name, tensor)
        content = (tensor.dtype, tuple(tensor.shape), patterns(tensor).tobytes())
        original = seen.setdefault(content, len(parts))
        if original < len(parts) and tensor.numel():
            record = Record(
                name=name, dtype=tensor.dtype, shape=tuple(tensor.shape), code=Code.COPY,
                original=original,
            )  # fmt: skip
            parts.append(Encoded(record, positions=parts[original].positions))
            continue
        part = encoded(name, tensor, entropy=entropy, rows=rows)
        rows -= _rows(part.record)
        parts.append(part)
    return parts


def _check(name: str, tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise RequestError(f"{name}: a {type(tensor).__name__}; only tensors can be packed")
    if tensor.is_meta or tensor.layout != torch.strided or tensor.is_quantized:
        raise RequestError(f"{name}: no plain values (meta, sparse or a quantised dtype)")
    if tensor.dtype not in DTYPES:
        allowed = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
        raise RequestError(
            f"{name}: {tensor.dtype} cannot be packed; convert it to one of {allowed}"
        )


def _rows(record: Record) -> int:
    """Rows whose positions are coded one by one."""
    adaptive = record.code == Code.CODED and not record.spread.uniform
    return matrix(record.shape)[0] if adaptive else 0


def _check_sizes(records: Sequence[Record], size: int, limit: int) -> None:
    total = sum(prod(record.shape) * record.dtype.itemsize for record in records)
    if total > limit:
        raise CheckpointError(
            f"its tensors would take {total:,} bytes and {limit:,} are allowed; if you trust it, "
            "give a larger limit"
        )
    # A row takes a bit or so, and time whatever it holds: a short file has few.
    if sum(map(_rows, records)) > min(MAX_ROWS, _FREE_ROWS + 8 * size):
        raise CheckpointError("it codes more rows than any packed model of its length")


def _account(part: Encoded, index: int, data: int) -> PackedTensor:
    record, nonzero = part.record, len(part.positions)
    # In Han's layout a padding entry holds a value too, so the best width may be another than
    # ours.
    gap_bits = best_gap_bits(part.positions, part.value_bits)
    return PackedTensor(
        name=record.name,
        shape=record.shape,
        parameters=record.entries,
        nonzero=nonzero,
        positions=_positions_in_words(record),
        values=_values_in_words(record),
        index_bits=part.index.bits if part.index.coded is None else index,
        data_bits=part.data.bits if part.data.coded is None else data,
        codebook_bits=8 * len(part.book),
        bound_bits=bound(record.entries, nonzero),
        value_bits=part.value_bits,
        gap_bits=gap_bits,
        gap_padding=padding(part.positions, gap_bits),
    )


def _positions_in_words(record: Record) -> str:
    if record.code == Code.GAPS:
        return f"gaps of {record.gap_bits} bits"
    if record.code == Code.CODED:
        return "coded" if record.spread.uniform else "coded by row"
    return record.code.name.lower()


def _values_in_words(record: Record) -> str:
    if record.code == Code.COPY:
        return "copy"
    words = {
        Kind.RAW: "raw",
        Kind.TABLE: f"table of {record.size}",
        Kind.LEVELS: f"±{record.size} levels",
    }[record.kind]
    return f"{words}, coded" if record.coded else words
