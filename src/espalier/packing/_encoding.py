"""One tensor into its streams: every code is priced, and the cheapest is taken."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from espalier.packing import _fields as fields
from espalier.packing._coder import Recorder, Symbols
from espalier.packing._positions import Positions, best_gap_bits, best_spread, gaps, matrix, padding
from espalier.packing._record import Code, Kind, Record
from espalier.packing._values import (
    Alphabet,
    Patterns,
    code_planes,
    code_symbols,
    levels,
    patterns,
    symbols_of,
    table,
)

MAX_ROWS = 1 << 15
"""Rows of a file whose positions may be coded row by row: a bound on what reading takes."""

_LARGE = 1 << 22  # entries from which structure in the positions is no longer looked for


@dataclass(frozen=True)
class Stream:
    """Positions or values of a tensor: fixed-width bytes, or symbols for the entropy coder.

    Attributes:
        bits: What it takes in the file; of coded symbols, an estimate.
        raw: The bytes.
        coded: The symbols.
    """

    bits: int
    raw: bytes = b""
    coded: Recorder | None = None


@dataclass(frozen=True)
class Encoded:
    """A tensor ready to be written."""

    record: Record
    index: Stream = Stream(0)
    data: Stream = Stream(0)
    book: bytes = b""
    value_bits: int = 0
    positions: Positions = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def bits(self) -> int:
        """All but the header."""
        return self.index.bits + self.data.bits + 8 * len(self.book)


def encoded(name: str, tensor: Tensor, *, entropy: bool, rows: int) -> Encoded:
    """The cheapest way to write a tensor.

    Args:
        name: Of the tensor.
        tensor: Strided, of a dtype in ``DTYPES``.
        entropy: Whether the entropy coder may be used.
        rows: Rows that may still be coded one by one.
    """
    found = patterns(tensor)
    record = Record(name=name, dtype=tensor.dtype, shape=tuple(tensor.shape), code=Code.DENSE)
    positions = np.flatnonzero(found)
    candidates = list(_values(replace(record, nonzero=len(found)), found, entropy))
    if len(positions) < len(found):
        sparse = replace(record, nonzero=len(positions))
        # What positions and values cost adds up, so the cheapest of each can be looked for by
        # itself.
        record, index = min(
            _index(sparse, positions, entropy, rows), key=lambda option: option[1].bits
        )
        candidates += [
            replace(option, index=index) for option in _values(record, found[positions], entropy)
        ]
    return replace(min(candidates, key=lambda option: option.bits), positions=positions)


def _index(
    record: Record, positions: Positions, entropy: bool, rows: int
) -> Iterator[tuple[Record, Stream]]:
    """Every code of positions."""
    mask = np.zeros(record.entries, np.int32)
    mask[positions] = 1
    yield replace(record, code=Code.BITMASK), Stream(len(mask), fields.to_bytes(mask, 1))
    bits = best_gap_bits(positions)
    pads = padding(positions, bits)
    size = len(positions) + pads
    raw = fields.to_bytes(gaps(positions, bits), bits)
    yield (
        replace(record, code=Code.GAPS, gap_bits=bits, padding=pads),
        Stream(size * bits, raw),
    )
    if entropy:
        adaptive = len(mask) < _LARGE and matrix(record.shape)[0] <= rows
        spread, coded = best_spread(record.shape, mask, adaptive)
        yield (
            replace(record, code=Code.CODED, spread=spread),
            Stream(round(coded.cost()), coded=coded),
        )


def _values(record: Record, found: Patterns, entropy: bool) -> Iterator[Encoded]:
    """Every code of values, as if positions cost nothing."""
    width = found.dtype.itemsize
    little = found.astype(found.dtype.newbyteorder("<")).tobytes()
    yield Encoded(record, data=Stream(8 * len(little), little), value_bits=8 * width)
    if entropy:
        planes = Recorder()
        code_planes(planes, width, len(found), found)
        yield Encoded(
            replace(record, coded=True),
            data=Stream(round(planes.cost()), coded=planes),
            value_bits=8 * width,
        )
    alphabet = table(found)
    if alphabet is None:
        return
    even = levels(alphabet.book, record.dtype)
    for book in [alphabet] if even is None else [alphabet, even]:
        yield from _with_book(record, found, book, entropy)


def _with_book(
    record: Record, found: Patterns, alphabet: Alphabet, entropy: bool
) -> Iterator[Encoded]:
    symbols: Symbols = symbols_of(found, alphabet)
    size = len(alphabet.patterns)
    kind = Kind.LEVELS if alphabet.levels else Kind.TABLE
    plain = Encoded(
        replace(record, kind=kind, size=size // 2 if alphabet.levels else size),
        data=Stream(len(symbols) * alphabet.bits, fields.to_bytes(symbols, alphabet.bits)),
        book=alphabet.book.astype(alphabet.book.dtype.newbyteorder("<")).tobytes(),
        value_bits=alphabet.bits,
    )
    yield plain
    if entropy and size > 1:
        coded = Recorder()
        code_symbols(coded, size, len(symbols), symbols)
        yield replace(
            plain,
            record=replace(plain.record, coded=True),
            data=Stream(round(coded.cost()), coded=coded),
        )
