import pytest
import torch

from espalier.sets._select import _SMALL, affordable, largest

N = 3 * _SMALL  # large enough for sampling and bracketing


def by_stable_sort(scores, keep):
    chosen = torch.zeros(len(scores), dtype=torch.bool)
    chosen[scores.argsort(descending=True, stable=True)[:keep]] = True
    return chosen


def by_strict_threshold(scores, keep):
    return scores > scores.kthvalue(len(scores) - keep + 1).values


def by_threshold(scores, keep):
    return scores >= scores.kthvalue(len(scores) - keep + 1).values


def by_last_of_ties(scores, keep):
    return by_stable_sort(scores.flip(0), keep).flip(0)


def inputs():
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(N, generator=generator)
    stride = -(-N // (_SMALL // 2))
    aliased = torch.rand(N, generator=generator)
    aliased[::stride] += 10  # the sample sees nothing but these
    hidden = torch.rand(N, generator=generator)
    hidden[::stride] -= 10
    return {
        "normal": normal,
        "double": normal.double(),
        "ties": normal.mul(3).round(),
        "mostly zero": normal.abs().sub(1).relu(),
        "constant": torch.ones(N),
        "rising": torch.arange(N, dtype=torch.float32),
        "falling": torch.arange(N, 0, -1, dtype=torch.float32),
        "two values": (normal > 0).float(),
        "sample too high": aliased,
        "sample too low": hidden,
        "tiny and huge": torch.where(normal > 0, 1e-40, 1e38) * normal.abs(),
        "infinite": torch.where(normal > 2, torch.inf, normal),
        "small": normal[:1000].mul(2).round(),
    }


@pytest.mark.parametrize(
    ("scores", "keep", "chosen"),
    [
        ([1, 3, 1, 2], 2, [0, 1, 0, 1]),
        ([1, 3, 1, 2], 3, [1, 1, 0, 1]),
        ([5, 5, 5, 5], 2, [1, 1, 0, 0]),
        ([0, 0, 1], 2, [1, 0, 1]),
        ([-1, -2, -3], 1, [1, 0, 0]),
        ([7], 1, [1]),
        ([7], 0, [0]),
        ([1, 2], 0, [0, 0]),
        ([1, 2], 2, [1, 1]),
        ([1, 2], 9, [1, 1]),
        ([], 0, []),
    ],
)
def test_largest_takes_exactly_keep_and_the_first_of_ties(scores, keep, chosen):
    assert largest(torch.tensor(scores, dtype=torch.float32), keep).tolist() == chosen


@pytest.mark.parametrize("name", inputs())
def test_largest_agrees_with_a_stable_sort(name):
    scores = inputs()[name]
    n = len(scores)
    for keep in (1, 2, n // 100, n // 10, n // 3, n // 2, n - n // 10, n - 2, n - 1):
        assert torch.equal(largest(scores, keep), by_stable_sort(scores, keep)), keep


@pytest.mark.parametrize("wrong", [by_strict_threshold, by_threshold, by_last_of_ties])
def test_oracle_rejects_selection_that_is_careless_of_ties(wrong):
    scores = inputs()["ties"]
    assert not torch.equal(wrong(scores, N // 3), by_stable_sort(scores, N // 3))


def test_largest_does_not_change_its_input():
    scores = inputs()["normal"]
    before = scores.clone()
    largest(scores, N // 4)
    assert torch.equal(scores, before)


def test_largest_on_cuda_agrees_with_the_cpu(cuda):
    for scores in inputs().values():
        for keep in (1, len(scores) // 10, len(scores) // 2):
            assert torch.equal(largest(scores.to(cuda), keep).cpu(), largest(scores, keep))


def by_sort_and_sum(prices, costs, limit):
    order = torch.cat(prices).argsort(descending=True, stable=True)
    each = torch.cat([torch.full((len(p),), c) for p, c in zip(prices, costs, strict=True)])
    run = order[each[order].cumsum(0) <= limit]
    chosen = torch.zeros(len(order), dtype=torch.bool)
    chosen[run] = True
    return chosen, limit - int(each[run].sum())


@pytest.mark.parametrize("name", inputs())
def test_affordable_agrees_with_a_sort(name):
    scores = inputs()[name]
    first, second = len(scores) // 3, len(scores) // 2
    prices = [scores[:first], scores[first:second], scores[second:]]
    costs = [7, 1, 30]
    total = sum(c * len(p) for c, p in zip(costs, prices, strict=True))
    for limit in (0, 5, 40, total // 100, total // 3, total - 3, total, 2 * total):
        masks, left = affordable(prices, costs, limit)
        expected, expected_left = by_sort_and_sum(prices, costs, limit)
        assert torch.equal(torch.cat(masks), expected), limit
        assert left == expected_left
