"""Exact selection of the largest scores, by a threshold and a count.

Only the scores near the threshold are ever ordered: a strided sample brackets it (Floyd & Rivest,
1975, *Expected time bounds for selection*), counting says how many lie above, and the few
candidates inside the bracket decide. For a sharded tensor the sample, the candidates and the counts
are what would be gathered or all-reduced; no step sorts or moves all scores.
"""

from collections.abc import Sequence
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
        end = _end_of(scores == threshold, surplus)
        chosen[end:] = scores[end:] > threshold
    return chosen


def _end_of(ties: Tensor, surplus: int) -> int:
    """The index from which on there are ``surplus`` ties: halving, since there may be very many."""
    start, end = 0, ties.numel()
    while end - start > 1:  # ties[start:] holds at least `surplus`, ties[end:] fewer
        middle = (start + end) // 2
        beyond = _count(ties[middle:end])
        if beyond >= surplus:
            start = middle
        else:
            end, surplus = middle, surplus - beyond
    return start


def _kth_largest(scores: Tensor, k: int) -> Tensor:
    """The k-th largest score, 1 <= k <= n, as a 0-d tensor."""
    n = scores.numel()
    if n <= _SMALL:
        return _order(scores, k)
    low, high = _bracket(scores, k)
    # Massive ties, such as the zeros of a pruned tensor, sit on an end of the bracket and are
    # settled by counting alone. Where the bracket missed, the scores outside it are ordered.
    above_low = scores > low
    reach = _count(above_low)
    if reach < k:
        return low if _count(scores >= low) >= k else _order(scores[~above_low], k - reach)
    inside = above_low.logical_and_(scores <= high)
    candidates = _count(inside)
    rank = k - (reach - candidates)
    if rank <= 0:
        return _order(scores[scores > high], k)
    if candidates > n // 8 and rank <= _count(scores == high):
        return high
    return _order(scores[inside], rank)


def _bracket(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Two bounds that almost surely hold the k-th largest between them."""
    n = scores.numel()
    sample = scores[:: -(-n // _SAMPLE)].sort(descending=True).values
    m, share = sample.numel(), k / n
    slack = _DEVIATIONS * sqrt(m * share * (1 - share)) + 2
    first, last = int(m * share - slack), int(m * share + slack)
    high = sample[first] if first >= 0 else sample.new_tensor(torch.inf)
    low = sample[last] if last < m else sample.new_tensor(-torch.inf)
    return low, high


def _order(scores: Tensor, k: int) -> Tensor:
    """The k-th largest by quickselect (CUDA: radix select, which has a deterministic form)."""
    if scores.is_cuda:
        return scores.topk(k, sorted=False).values.min()
    return scores.kthvalue(scores.numel() - k + 1).values


def _count(mask: Tensor) -> int:
    return int(torch.count_nonzero(mask))


def affordable(
    prices: Sequence[Tensor], costs: Sequence[int], limit: int
) -> tuple[list[Tensor], int]:
    """Boolean masks of the longest run, by falling price, that costs at most ``limit``.

    An entry of ``prices[t]`` costs ``costs[t]``. Of equal prices the earlier tensor, then the lower
    index, comes first. ``largest`` is the case of one cost.

    Returns:
        A mask for each tensor, and what is left of the limit.

    Example:
        >>> affordable([torch.tensor([1.0, 3.0]), torch.tensor([2.0])], [2, 1], limit=3)
        ([tensor([False,  True]), tensor([True])], 0)
    """
    low, high = _affordable_bracket(prices, costs, limit)
    chosen = [p > high for p in prices]
    left = limit - sum(c * _count(m) for m, c in zip(chosen, costs, strict=True))
    inside = [
        (p >= low).logical_and_(~m).nonzero().flatten() for p, m in zip(prices, chosen, strict=True)
    ]
    rest = torch.cat([p[i] for p, i in zip(prices, inside, strict=True)])
    each = torch.tensor(costs, device=rest.device)
    cost = each.repeat_interleave(torch.tensor([len(i) for i in inside], device=rest.device))
    order = rest.argsort(descending=True, stable=True)
    spent = cost[order].cumsum(0)
    taken = torch.zeros(len(rest), dtype=torch.bool, device=rest.device)
    taken[order] = spent <= left
    left -= int(cost[taken].sum())
    parts = torch.split(taken, [len(i) for i in inside])
    for mask, i, more in zip(chosen, inside, parts, strict=True):
        mask[i] = more
    return chosen, left


def _affordable_bracket(
    prices: Sequence[Tensor], costs: Sequence[int], limit: int
) -> tuple[float, float]:
    """Two prices with the end of the run between them: all above the higher fit, not all others."""
    n = sum(len(p) for p in prices)
    if n > _SMALL:
        stride = -(-n // (4 * _SAMPLE))
        sample = torch.cat([p[::stride] for p in prices])
        each = torch.tensor(costs, device=sample.device)
        sizes = torch.tensor([len(p[::stride]) for p in prices], device=sample.device)
        order = sample.sort(descending=True)
        m = len(sample)
        spent = each.repeat_interleave(sizes)[order.indices].cumsum(0) * (n / m)
        rank, slack = int((spent <= limit).sum()), int(_DEVIATIONS * sqrt(m))
        low, high = (
            float(order.values[min(max(r, 0), m - 1)]) for r in (rank + slack, rank - slack)
        )

        def cost_above(price: float, *, strictly: bool) -> int:
            masks = (p > price if strictly else p >= price for p in prices)
            return sum(c * _count(mask) for mask, c in zip(masks, costs, strict=True))

        if cost_above(high, strictly=True) <= limit < cost_above(low, strictly=False):
            return low, high
    return -torch.inf, torch.inf
