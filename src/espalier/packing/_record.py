"""What the header says of each tensor, as few bytes, and read back as if a stranger had written it.

Numbers are LEB128: seven bits per byte, the eighth says that another follows. The header is deflated,
with a dictionary of the names that models use.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import prod

import torch

from espalier.errors import CheckpointError, RequestError
from espalier.packing._positions import FLAT, MAX_GAP_BITS, UNIFORM, Spread
from espalier.packing._values import DTYPES, MAX_ALPHABET

_DICTIONARY = (
    b"num_batches_tracked\nrunning_var\nrunning_mean\nqkv.proj.norm.classifier.head.downsample.0."
    b"features.0.block.conv.bn2.bias\n.bn1.weight\nlayer1.0.conv1.bias\nfc3.weight\nfc3.bias\n"
    b"conv1.weight\nconv1.bias\nconv2.weight\nconv2.bias\nfc1.weight\nfc1.bias\nfc2.weight\nfc2.bias\n"
)
MAX_HEADER = 1 << 24
"""Bytes of the inflated header."""

MAX_TENSORS = 1 << 15
"""Tensors of a file."""

_MAX_NAME = 512
_MAX_DIMENSIONS = 64
_LIMIT = 1 << 62


class Code(IntEnum):
    """How positions are written."""

    DENSE = 0
    BITMASK = 1
    GAPS = 2
    CODED = 3
    COPY = 4


class Kind(IntEnum):
    """How values are written."""

    RAW = 0
    TABLE = 1
    LEVELS = 2


@dataclass(frozen=True, kw_only=True)
class Record:
    """One tensor.

    Attributes:
        name: As in the state dictionary.
        dtype: Of its values.
        shape: Its shape.
        code: How positions are written; DENSE has every entry, COPY says that the tensor equals an
            earlier one.
        nonzero: Entries that are not the pattern 0; for DENSE all entries.
        gap_bits: Of a field of the relative index.
        padding: Padding entries of the relative index.
        spread: Of coded positions.
        original: For COPY, the number of the earlier tensor.
        kind: How values are written.
        size: Entries of the table, or the top level.
        coded: Whether values are entropy-coded.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    code: Code
    nonzero: int = 0
    gap_bits: int = 0
    padding: int = 0
    spread: Spread = FLAT
    original: int = 0
    kind: Kind = Kind.RAW
    size: int = 0
    coded: bool = False

    @property
    def entries(self) -> int:
        """Entries of the tensor."""
        return prod(self.shape)


def to_header(records: Sequence[Record]) -> bytes:
    """The header of a file.

    Raises:
        RequestError: A name that cannot be written, or too many tensors.
    """
    if len(records) > MAX_TENSORS:
        raise RequestError(f"{len(records):,} tensors; a packed file holds at most {MAX_TENSORS:,}")
    for record in records:
        if not _plain(record.name):
            raise RequestError(
                f"{record.name!a:.100}: names have at most {_MAX_NAME} printable characters"
            )
    # All names, then all numbers: what is alike stands together, and deflates better.
    names = "".join(f"{record.name}\n" for record in records).encode()
    numbers = b"".join(_number(n) for record in records for n in _numbers(record))
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, _DICTIONARY)
    return deflate.compress(_number(len(records)) + names + numbers) + deflate.flush()


def from_header(data: bytes) -> tuple[list[Record], int]:
    """The records, and how many bytes of ``data`` the header takes.

    Raises:
        CheckpointError: Not a header, or one that says what cannot be.
    """
    inflate = zlib.decompressobj(-15, _DICTIONARY)
    try:
        # Bounded, for a few bytes can inflate to gigabytes.
        text = inflate.decompress(data, MAX_HEADER)
    except zlib.error as error:
        raise CheckpointError("its header cannot be inflated") from error
    if not inflate.eof:
        raise CheckpointError("its header has no end, or is larger than any model needs")
    cursor = _Cursor(text)
    count = cursor.number(len(text))
    if count > MAX_TENSORS:
        raise CheckpointError(f"it holds {count:,} tensors, and at most {MAX_TENSORS:,} are read")
    names = [cursor.name() for _ in range(count)]
    if len(set(names)) < count:
        raise CheckpointError("two of its tensors have one name")
    records: list[Record] = []
    for name in names:
        records.append(_record(cursor, name, records))
    if cursor.at < len(text):
        raise CheckpointError("its header says more than its tensors need")
    return records, len(data) - len(inflate.unused_data)


def _numbers(record: Record) -> list[int]:
    first = record.code | DTYPES.index(record.dtype) << 3
    if record.code == Code.COPY:
        return [first, record.original]
    numbers = [first, len(record.shape), *record.shape]
    if record.code != Code.DENSE:
        numbers.append(record.nonzero)
    if record.code == Code.GAPS:
        numbers += [record.gap_bits, record.padding]
    if record.code == Code.CODED:
        numbers.append(record.spread.rows << 4 | record.spread.columns)
    numbers.append(record.kind << 1 | record.coded)
    if record.kind != Kind.RAW:
        numbers.append(record.size)
    return numbers


def _record(cursor: "_Cursor", name: str, earlier: Sequence[Record]) -> Record:
    first = cursor.number(len(DTYPES) << 3)
    if first & 7 not in set(Code):
        raise CheckpointError(f"{name!r}: positions in an unknown code")
    code, dtype = Code(first & 7), DTYPES[first >> 3]
    if code == Code.COPY:
        original = cursor.number(len(earlier))
        same = earlier[original]
        if same.code == Code.COPY or same.dtype != dtype:
            raise CheckpointError(f"{name!r}: a copy of what it cannot be a copy of")
        return Record(name=name, dtype=dtype, shape=same.shape, code=code, original=original)
    shape = tuple(cursor.number(_LIMIT) for _ in range(cursor.number(_MAX_DIMENSIONS + 1)))
    if prod(max(n, 1) for n in shape) >= _LIMIT:
        raise CheckpointError(f"{name!r}: a shape beyond all sizes")
    entries = prod(shape)
    nonzero = entries if code == Code.DENSE else cursor.number(entries + 1)
    gap_bits = padding = 0
    if code == Code.GAPS:
        gap_bits, padding = cursor.number(MAX_GAP_BITS + 1), cursor.number(entries + 1)
        # A field takes a bit at least and leads on by one entry at least, so there are no more than either.
        if not gap_bits or nonzero + padding > entries:
            raise CheckpointError(f"{name!r}: gaps that cannot be")
    spread = FLAT
    if code == Code.CODED:
        both = cursor.number((UNIFORM << 4 | UNIFORM) + 1)
        spread = Spread(both >> 4, both & 15)
    both = cursor.number(max(Kind) << 1 | 2)
    kind = Kind(both >> 1)
    limit = {Kind.RAW: 0, Kind.TABLE: MAX_ALPHABET, Kind.LEVELS: MAX_ALPHABET // 2}[kind]
    size = cursor.number(limit + 1) if limit else 0
    if (limit and not size) or (kind == Kind.LEVELS and not dtype.is_floating_point):
        raise CheckpointError(f"{name!r}: a codebook that cannot be")
    return Record(
        name=name, dtype=dtype, shape=shape, code=code, nonzero=nonzero, gap_bits=gap_bits,
        padding=padding, spread=spread, kind=kind, size=size, coded=bool(both & 1),
    )  # fmt: skip


def _plain(name: str) -> bool:
    return len(name) <= _MAX_NAME and name.isprintable()


def _number(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


class _Cursor:
    """Reads the inflated header from its beginning."""

    def __init__(self, text: bytes) -> None:
        self.text, self.at = text, 0

    def number(self, limit: int) -> int:
        """A number below ``limit``."""
        value = shift = 0
        while True:
            if self.at >= len(self.text):
                raise CheckpointError("its header is cut short")
            byte = self.text[self.at]
            self.at += 1
            value |= (byte & 127) << shift
            shift += 7
            # In the loop, so that a long run of bytes is refused before it has become a huge
            # integer.
            if value >= limit:
                raise CheckpointError("its header holds a number that cannot be")
            if byte < 128:
                return value
            if shift > 63:
                raise CheckpointError("its header holds a number without an end")

    def name(self) -> str:
        """A name, up to the end of its line."""
        end = self.text.find(b"\n", self.at)
        raw, self.at = self.text[self.at : end], end + 1
        try:
            name = raw.decode()
        except UnicodeDecodeError:
            name = "\0"
        if end < 0 or not _plain(name):
            raise CheckpointError("its header holds a name that cannot be shown")
        return name
