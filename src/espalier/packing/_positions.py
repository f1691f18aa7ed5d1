"""Where the nonzeros of a tensor lie: three codes, each with its inverse.

**Bitmask**: one bit per entry.

**Relative index** (Han et al. 2016): a field of b bits holds the distance d ≥ 1 to the next nonzero.
A distance above 2ᵇ − 1 is bridged by padding entries; their field is 0 and stands for 2ᵇ − 1.

**Coded**: entropy-coded with a probability for each entry. Row by row, in the tensor as a matrix of
its first axis against the others::

    p_ij = λ_i · w_j / Σ w      λ_i = (α + o) / (α/μ + Σ_seen w / Σ w)      w_j ∝ (β + n_j) / (β + n̄)

λ_i is the expected number of nonzeros in row i: the posterior mean of a Gamma(α, α/μ) prior after o
nonzeros in the part of the row seen so far, with μ the mean over the rows that remain. w_j is the
same for columns, with n_j nonzeros above and n̄ their mean over columns. A small α or β lets empty
rows or columns cost next to nothing; for α, β → ∞ the code of positions without any structure
remains, and it costs log₂ C(n, k) and a few bits.

Everything is integers and single operations on float64, so that each machine gets the same p.
"""

from dataclasses import dataclass
from functools import cache
from math import lgamma, log, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from espalier.packing._coder import Coder, Recorder, Symbols

Positions = NDArray[np.int64]
"""Flat indices of nonzeros, ascending."""

MAX_GAP_BITS = 16
UNIFORM = 15
"""The exponent that stands for infinite concentration, in both directions."""

_OFFSET = 6  # the least concentration is 2⁻⁶
_SEGMENTS = 16  # of a row, between two looks at how many nonzeros it has
_CHUNK = 1 << 16
_WEIGHT = 1 << 10  # w is kept as an integer, because integer sums do not depend on their order


def bound(entries: int, nonzero: int) -> float:
    """log₂ C(n, k): the bits that k positions among n need when all are equally likely.

    >>> round(bound(4, 2), 6)  # 6 ways
    2.584963
    """
    ways = lgamma(entries + 1) - lgamma(nonzero + 1) - lgamma(entries - nonzero + 1)
    return max(0.0, ways / log(2))


def gaps(positions: Positions, bits: int) -> NDArray[np.int64]:
    """The fields of the relative index, padding included.

    >>> gaps(np.array([0, 3, 13]), bits=2)  # distances 1, 3, 10 = 3 + 3 + 3 + 1
    array([1, 3, 0, 0, 0, 1])
    """
    distances = np.diff(positions, prepend=-1)
    padding = (distances - 1) // ((1 << bits) - 1)
    fields = np.zeros(len(distances) + int(padding.sum()), np.int64)
    # A distance takes its padding and then its own field, so the running sum of both says where
    # the own fields stand; between them lie the zeros of the padding.
    fields[np.cumsum(padding + 1) - 1] = distances - padding * ((1 << bits) - 1)
    return fields


def from_gaps(fields: NDArray[Any], bits: int) -> Positions:
    """The inverse of :func:`gaps`.

    >>> from_gaps(np.array([1, 3, 0, 0, 0, 1]), bits=2)
    array([ 0,  3, 13])
    """
    ends = np.cumsum(np.where(fields == 0, (1 << bits) - 1, fields), dtype=np.int64) - 1
    found: Positions = ends[fields != 0]
    return found


def padding(positions: Positions, bits: int) -> int:
    """How many padding entries the relative index of so many bits needs."""
    distances = np.diff(positions, prepend=-1)
    return int(((distances - 1) // ((1 << bits) - 1)).sum())


def best_gap_bits(positions: Positions, entry_bits: int = 0) -> int:
    """The b with the least (k + padding)·b + padding·``entry_bits``, and of those the smallest.

    Args:
        positions: Of the nonzeros.
        entry_bits: What a padding entry costs besides its field: a value, in Han's layout; nothing,
            in ours.

    >>> best_gap_bits(np.arange(0, 3100, 31))  # every 31st: 5 bits and no padding
    5
    """
    size = len(positions)

    def cost(bits: int) -> int:
        pads = padding(positions, bits)
        return (size + pads) * bits + pads * entry_bits

    return min(range(1, MAX_GAP_BITS + 1), key=cost)


@dataclass(frozen=True)
class Spread:
    """The concentrations of the coded positions: α = 2^(rows − 6), β = 2^(columns − 6).

    Both 15 stand for infinity, and the tensor is coded flat.
    """

    rows: int = UNIFORM
    columns: int = UNIFORM

    @property
    def uniform(self) -> bool:
        """No structure: every entry alike."""
        return self.rows == self.columns == UNIFORM


FLAT = Spread()
"""Every entry alike."""


def matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns: the first axis against the others."""
    return (shape[0], prod(shape[1:])) if len(shape) > 1 else (1, prod(shape))


def code_positions(
    coder: Coder, shape: tuple[int, ...], nonzero: int, spread: Spread, mask: Symbols | None = None
) -> Symbols:
    """Send the mask through a coder; the decoder has none and gets it.

    Args:
        coder: Either direction.
        shape: Of the tensor.
        nonzero: Ones in the mask, 0 to all.
        spread: The concentrations.
        mask: 0 and 1, flat; None for the decoder.

    Returns:
        The mask. A decoder that is given nonsense may return another number of ones.
    """
    rows, columns = matrix(shape)
    if spread.uniform:
        return _uniform(coder, rows * columns, nonzero, mask)
    found = np.zeros((rows, columns), np.int32)
    known = None if mask is None else mask.reshape(rows, columns)
    alpha, beta = 2.0 ** (spread.rows - _OFFSET), 2.0 ** (spread.columns - _OFFSET)
    above = np.zeros(columns, np.int64)  # nonzeros so far, by column
    starts = range(0, columns, -(-columns // _SEGMENTS))
    parts = [slice(at, at + starts.step) for at in starts]
    sizes = [min(part.stop, columns) - part.start for part in parts]
    left = nonzero
    # Both sides know how many ones there are, so nothing is sent once all of them have been.
    for i in range(rows):
        if left <= 0:
            break
        # Columns, from the rows above alone: the decoder has those too.
        weights = (beta + above) / (beta + (nonzero - left) / columns)
        # + 1: a column that was empty so far keeps a chance, and the sum below is never 0.
        whole = np.floor(weights * _WEIGHT).astype(np.int64) + 1
        shares = np.add.reduceat(whole, starts)
        seen = (np.cumsum(shares) - shares) / whole.sum()
        scale, mean = 1.0 / whole.sum(), left / (rows - i)
        # What the encoder sums in one go, the decoder finds out part by part. The operations on an
        # entry and their order are the same in both: where one last bit differed, all that follows
        # would be decoded as something else.
        if known is not None:  # all of the row at once
            own = np.add.reduceat(known[i], starts)
            rates = (alpha + (np.cumsum(own) - own)) / (alpha / mean + seen)
            found[i] = coder.bits(whole * np.repeat(rates * scale, sizes), known[i])
        else:
            ones = 0
            for part, before in zip(parts, seen.tolist(), strict=True):
                rate = (alpha + ones) / (alpha / mean + before)
                found[i, part] = coder.bits(whole[part] * (rate * scale), None)
                ones += int(found[i, part].sum())
        above += found[i]
        left -= int(found[i].sum())
    return found.reshape(-1)


def _uniform(coder: Coder, entries: int, nonzero: int, mask: Symbols | None) -> Symbols:
    found, left = np.zeros(entries, np.int32), nonzero
    for at in range(0, entries, _CHUNK):
        if left <= 0:
            break
        size = min(_CHUNK, entries - at)
        # The rate is that of what is left, so it stays right if the nonzeros crowd at one end.
        ones = np.full(size, left / (entries - at))
        found[at : at + size] = coder.bits(ones, None if mask is None else mask[at : at + size])
        left -= int(found[at : at + size].sum())
    return found


def best_spread(shape: tuple[int, ...], mask: Symbols, adaptive: bool) -> tuple[Spread, Recorder]:
    """The cheapest spread that a search downhill finds, and the positions recorded with it.

    Args:
        shape: Of the tensor.
        mask: 0 and 1, flat.
        adaptive: Look beyond the uniform one; this takes a walk over all rows per trial.
    """
    nonzero = int(mask.sum())

    def walked(spread: Spread) -> Recorder:
        recorder = Recorder()
        code_positions(recorder, shape, nonzero, spread, mask)
        return recorder

    # The neighbourhoods of two steps overlap, and every trial is a walk over all rows.
    @cache
    def cost(spread: Spread) -> float:
        return walked(spread).cost()

    here, step = Spread(6, 6), 4 if adaptive else 0
    while step:
        best = min(_around(here, step), key=cost)
        here, step = best, step if best != here else step // 2
    found = min((FLAT, here) if adaptive else (FLAT,), key=cost)
    return found, walked(found)


def _around(here: Spread, step: int) -> list[Spread]:
    return [here] + [
        Spread(here.rows + down, here.columns + right)
        for down, right in ((-step, 0), (step, 0), (0, -step), (0, step))
        if 0 <= here.rows + down < UNIFORM and 0 <= here.columns + right < UNIFORM
    ]
