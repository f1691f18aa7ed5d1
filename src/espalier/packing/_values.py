"""What the nonzeros of a tensor are: raw, entries of a table, or levels ±1, ±2, … of one distance.

Values are bit patterns throughout, unsigned integers as wide as the dtype: NaN payloads and −0.0
come back as they were, and only the pattern 0 is a zero.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from espalier.packing._coder import Coder, Symbols

Patterns = NDArray[np.unsignedinteger[Any]]

DTYPES = (
    *(torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32),
    *(torch.int16, torch.int8, torch.uint8, torch.bool),
)
"""By their number in a file."""

MAX_ALPHABET = 256
_SIGNED = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
_SAMPLE = 4096
_FIRST, _BLOCK = 4, 64  # symbols between two counts: few at first, when much is learned


@dataclass(frozen=True)
class Alphabet:
    """What a symbol stands for.

    Attributes:
        book: What the file holds of it: the table, or the distance alone.
        patterns: The pattern of every symbol.
        levels: Whether they are multiples of one distance.
    """

    book: Patterns
    patterns: Patterns
    levels: bool

    @property
    def bits(self) -> int:
        """Bits of a symbol of fixed width: ⌈log₂ M⌉."""
        return (len(self.patterns) - 1).bit_length()


def patterns(tensor: Tensor) -> Patterns:
    """The bit patterns of a tensor, flat."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    size = flat.element_size()
    return flat.view(_SIGNED[size]).numpy().view(_UNSIGNED[size])


def tensor_of(found: Patterns, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """The inverse of :func:`patterns`."""
    own = np.ascontiguousarray(found).astype(pattern_type(dtype))
    return torch.from_numpy(own.view(f"i{dtype.itemsize}")).view(dtype).reshape(shape)


def pattern_type(dtype: torch.dtype) -> np.dtype[Any]:
    """The unsigned integer as wide as the dtype."""
    return np.dtype(_UNSIGNED[dtype.itemsize])


def table(found: Patterns) -> Alphabet | None:
    """The distinct patterns in ascending order; None where there are more than 256, or none."""
    # Weights that are not quantised show it in their first thousands, without a sort of all.
    if not len(found) or len(np.unique(found[:_SAMPLE])) > MAX_ALPHABET:
        return None
    distinct = np.unique(found)
    return None if len(distinct) > MAX_ALPHABET else Alphabet(distinct, distinct, levels=False)


def level_patterns(distance: Patterns, dtype: torch.dtype, top: int) -> Patterns:
    """−top·q, …, −q, q, …, top·q, each the product rounded once to the dtype.

    Args:
        distance: The pattern of q, one of them.
        dtype: A floating-point dtype.
        top: The highest level, 1 or more.
    """
    levels = torch.tensor([*range(-top, 0), *range(1, top + 1)])
    q = tensor_of(distance, dtype, ())
    wide = torch.float64 if dtype == torch.float64 else torch.float32  # exact for half precision
    return patterns((levels.to(wide) * q.to(wide)).to(dtype))


def levels(distinct: Patterns, dtype: torch.dtype) -> Alphabet | None:
    """The distinct values as ±k·q, if there is a q that gives each of them bit for bit.

    Tried are, for j = 1, 2, …, the smallest magnitude / j and its two neighbours in the dtype.

    Args:
        distinct: From :func:`table`.
        dtype: Of the tensor.
    """
    if not dtype.is_floating_point:
        return None
    magnitudes = tensor_of(distinct, dtype, (len(distinct),)).double().abs()
    low, high = float(magnitudes.min()), float(magnitudes.max())
    if not (low > 0 and high < float("inf")):  # no NaN, no infinity, no −0.0
        return None
    # The smallest magnitude is j·q for some j, so q is that over j, up to the rounding of the
    # product: hence the two neighbours.
    for j in range(1, MAX_ALPHABET // 2 + 1):
        if high / low * j > MAX_ALPHABET // 2 + 0.5:
            return None
        near = patterns(torch.tensor([low / j], dtype=torch.float64).to(dtype))
        for shift in (0, 1, -1):
            distance = (near.astype(np.int64) + shift).astype(near.dtype)
            q = float(tensor_of(distance, dtype, ()))
            top = round(high / q) if 0 < q < float("inf") else 0
            if not 0 < top <= MAX_ALPHABET // 2:
                continue
            made = level_patterns(distance, dtype, top)
            # Two levels that round to one pattern would leave a symbol without a meaning of its
            # own.
            if np.isin(distinct, made).all() and len(np.unique(made)) == len(made):
                return Alphabet(distance, made, levels=True)
    return None


def symbols_of(found: Patterns, alphabet: Alphabet) -> Symbols:
    """The symbol of every pattern."""
    order = np.argsort(alphabet.patterns)
    return order[np.searchsorted(alphabet.patterns[order], found)].astype(np.int32)


def code_symbols(coder: Coder, alphabet: int, size: int, known: Symbols | None = None) -> Symbols:
    """Send symbols through a coder that counts as it goes: p ∝ 2·(times seen) + 1.

    Args:
        coder: Either direction.
        alphabet: Number of symbols, 1 or more.
        size: How many are sent.
        known: The symbols; None for the decoder.

    Source: Krichevsky and Trofimov 1981, in blocks.
    """
    if alphabet == 1:
        return np.zeros(size, np.int32)
    counts = np.ones(alphabet)
    found, at = np.zeros(size, np.int32), 0
    while at < size:
        block = min(size - at, max(_FIRST, min(at, max(_BLOCK, size >> 10))))
        # A copy: a recorder keeps what it is given until it encodes, and ``counts`` goes on
        # counting.
        said = coder.symbols(
            counts.copy(), block, None if known is None else known[at : at + block]
        )
        found[at : at + block] = said
        counts += 2.0 * np.bincount(said, minlength=alphabet)
        at += block
    return found


def code_planes(
    coder: Coder, width: int, size: int, known: Patterns | None = None
) -> NDArray[np.uint8]:
    """Send patterns through a coder, byte by byte: all lowest bytes, …, all highest.

    Args:
        coder: Either direction.
        width: Bytes of a pattern.
        size: How many are sent.
        known: The patterns; None for the decoder.

    Returns:
        Their bytes, lowest first.
    """
    planes = None if known is None else _bytes(known)
    found = np.zeros((size, width), np.uint8)
    for plane in range(width):
        column = None if planes is None else planes[:, plane].astype(np.int32)
        found[:, plane] = code_symbols(coder, 256, size, column)
    return found.reshape(-1)


def _bytes(known: Patterns) -> NDArray[np.uint8]:
    little = known.astype(known.dtype.newbyteorder("<"))
    return little.view(np.uint8).reshape(len(known), known.dtype.itemsize)
