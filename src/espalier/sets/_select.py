"""Exact selection of the largest scores, by a threshold and a count.

Only the scores near the threshold are ever ordered: a strided sample brackets it (Floyd & Rivest,
1975, *Expected time bounds for selection*), counting says how many lie above, and the few
candidates inside the bracket decide. For a sharded tensor the sample, the candidates and the counts
are what would be gathered or all-reduced; no step sorts or moves all scores.
"""

from math import sqrt

import torch
from torch import Tensor

_SMALL = 1 << 15  # below this one quickselect is cheaper than sampling
_SAMPLE = 1 << 14
_DEVIATIONS = 4.0  # half-width of the bracket, in standard deviations of the sampled rank


def largest(scores: Tensor, keep: int) -> Tensor:
    """Boolean mask of exactly ``keep`` largest of ``scores``; ties go to the lower index.

    Args:
        scores: Shape (n,), float32 or float64, free of NaN, any device; infinities are in order.
        keep: How many to choose; below 0 means none, above n means all.

    Example:
        >>> largest(torch.tensor([1.0, 3.0, 1.0, 2.0]), keep=3)
        tensor([ True,  True, False,  True])
    """
    n = scores.numel()
    if keep >= n or keep <= 0:
        return torch.full((n,), keep > 0, dtype=torch.bool, device=scores.device)
    threshold = _kth_largest(scores, keep)
    chosen = scores >= threshold
    surplus = _count(chosen) - keep
    if surplus:
        ties = (scores == threshold).nonzero().flatten()
        chosen[ties[ties.numel() - surplus :]] = False
    return chosen


def _kth_largest(scores: Tensor, k: int) -> Tensor:
    """The k-th largest score, 1 <= k <= n, as a 0-d tensor."""
    n = scores.numel()
    if n <= _SMALL:
        return _order(scores, k)
    low, high = _bracket(scores, k)
    above_low = scores > low
    # Enough lie above `low`, too few above `high`: the threshold is in (low, high]. Massive ties
    # (zeros of a pruned tensor) sit on an end of the bracket and are settled by counting alone.
    reach = _count(above_low)
    if reach < k:
        return low if _count(scores >= low) >= k else _order(scores, k)
    inside = above_low.logical_and_(scores <= high)
    rank = k - (reach - _count(inside))
    if rank <= 0:
        return _order(scores, k)
    at_high = _count(scores == high) if _count(inside) > n // 8 else 0
    if rank <= at_high:
        return high
    return _order(scores[inside], rank)


def _bracket(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Two scores that almost surely hold the k-th largest between them."""
    n = scores.numel()
    sample = scores[:: -(-n // _SAMPLE)].sort(descending=True).values
    m, share = sample.numel(), k / n
    slack = _DEVIATIONS * sqrt(m * share * (1 - share)) + 1
    first = max(0, int(m * share - slack) - 1)
    last = min(m - 1, int(m * share + slack) + 1)
    return sample[last], sample[first]


def _order(scores: Tensor, k: int) -> Tensor:
    """The k-th largest by quickselect (CUDA: radix select, which has a deterministic form)."""
    if scores.is_cuda:
        return scores.topk(k, sorted=False).values.min()
    return scores.kthvalue(scores.numel() - k + 1).values


def _count(mask: Tensor) -> int:
    return int(torch.count_nonzero(mask))
