r"""Exact selection of the largest scores where every rank holds a part of them, and none is gathered.

Legend: unit u has score :math:`s_u`, cost :math:`c_t` (that of its tensor) and place :math:`p_u` in the order in
which ties are settled; its *key* is :math:`(s_u, -p_u)`, and no two are equal. Wanted: the longest run by
falling key that costs at most L.

The key at which the run ends is found digit by digit from the highest (radix selection; Knuth, *The Art of
Computer Programming* 3, §5.2.5): how much the units cost that agree with it so far is counted for each of 256
next digits, on every rank, and summed over the ranks. A float32 has 4 such digits and a place at most 8, so 12
sums of 256 integers do for any number of weights, and 4 unless there are ties; bisection takes 31.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from espalier._ground.sharding import like, local, pieces_of
from espalier._ground.world import Ask, Talk, settled

_DIGIT = 8
_VALUES = 1 << _DIGIT


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """The units of one tensor that this rank holds.

    Attributes:
        scores: float32 or float64, shape (units,), free of NaN.
        places: From indices into ``scores`` to places, int64, >= 0, no place twice on all ranks.
        cost: Of each, an integer >= 1.
        counted: Whether this rank speaks for them; one does where several hold the same.
    """

    scores: Tensor
    places: Callable[[Tensor], Tensor]
    cost: int = 1
    counted: bool = True

    def some(self, index: Tensor) -> "Candidates":
        """Those of these indices, at the places that they have."""
        return replace(self, scores=self.scores[index], places=lambda few: self.places(index[few]))

    def after(self, below: int) -> Callable[[Tensor], Tensor]:
        """Their places, after so many of other tensors."""
        return lambda index: self.places(index) + below


def longest_run(
    units: Sequence[Candidates], limit: int, places: int
) -> Talk[tuple[list[Tensor], int]]:
    """Boolean masks of the longest run by falling score, of equals the lower place first.

    Args:
        units: Of all tensors that compete, the same tensors on every rank, with scores of one dtype.
        limit: The most it may cost.
        places: All places are below.

    Returns:
        A mask for each tensor, and what is left of the limit; the latter the same on every rank.

    Example:
        >>> from espalier._ground.world import ALONE, settled
        >>> two = Candidates(scores=torch.tensor([1.0, 3.0, 1.0]), places=lambda index: index)
        >>> settled(longest_run([two], limit=2, places=3), ALONE)
        ([tensor([ True,  True, False])], 0)
    """
    keys = [_ordered(u.scores) for u in units]
    bits = max((8 * k.element_size() for k in keys), default=32)
    end, left = yield from _end(keys, units, limit, bits, signed=True)
    if end is None:
        return [torch.ones_like(k, dtype=torch.bool) for k in keys], left
    chosen = [k > end for k in keys]
    if left < min(u.cost for u in units):
        return chosen, left
    # Units of the score at which the run ends, by their places: fewer places first.
    ties = [(k == end).nonzero().flatten() for k in keys]
    order = [places - 1 - u.places(i) for u, i in zip(units, ties, strict=True)]
    last, left = yield from _end(order, units, left, max(1, places.bit_length()), signed=False)
    assert last is not None  # all of them do not fit, or the score would not be the end
    for mask, index, key in zip(chosen, ties, order, strict=True):
        mask[index[key > last]] = True
    return chosen, left


def largest_of(scores: Tensor, keep: int) -> Tensor:
    """Boolean mask of exactly ``keep`` largest of a whole tensor, placed as it is; ties go to the lower index."""
    pieces, world = pieces_of({"": scores})
    piece = pieces[""]
    units = Candidates(scores=local(scores).flatten(), places=piece.places, counted=piece.counted)
    (chosen,), _ = settled(longest_run([units], keep, scores.numel()), world)
    return like(chosen.reshape(local(scores).shape), scores)


def _end(
    keys: Sequence[Tensor], units: Sequence[Candidates], limit: int, bits: int, *, signed: bool
) -> Talk[tuple[int | None, int]]:
    """The key of the first unit that does not fit, ``None`` if all do; and what is left of the limit before it."""
    end, left = 0, limit
    highest = -(-bits // _DIGIT) * _DIGIT - _DIGIT
    for shift in range(highest, -1, -_DIGIT):
        digits = [(k >> shift) & (_VALUES - 1) for k in keys]
        if signed and shift == highest:  # negative keys come first, but have the sign's bit set
            digits = [d ^ (_VALUES >> 1) for d in digits]
        cost = sum(
            (u.cost * _histogram(d) for u, d in zip(units, digits, strict=True) if u.counted),
            start=torch.zeros(_VALUES, dtype=torch.int64),
        )
        (cost,) = yield [Ask(cost)]
        spent = cost.flip(0).cumsum(0)
        over = (spent > left).nonzero()
        if not len(over):
            return None, left - int(spent[-1])
        first = int(over[0])
        left -= int(spent[first - 1]) if first else 0
        digit = _VALUES - 1 - first
        end = end << _DIGIT | digit
        if shift:
            keys = [k[d == digit] for k, d in zip(keys, digits, strict=True)]
    return end - (1 << (highest + _DIGIT - 1)) if signed else end, left


def _histogram(digits: Tensor) -> Tensor:
    return torch.bincount(digits, minlength=_VALUES).cpu()


def _ordered(scores: Tensor) -> Tensor:
    """Integers in the order of the floats: their bits, with those of negative numbers turned round."""
    scores = scores + 0.0  # no −0.0, which would come before 0.0
    whole = torch.int64 if scores.dtype is torch.float64 else torch.int32
    bits = scores.view(whole)
    return bits ^ ((bits >> (8 * bits.element_size() - 1)) & torch.iinfo(whole).max)
