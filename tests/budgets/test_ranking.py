"""A ranking over all groups of units: against every choice of widths there is."""

from itertools import product

import numpy as np
import pytest

from espalier.budgets._ranking import Ladder, ranked


def _kept(scores, widths):
    """The score of what stays: of every group the largest."""
    return sum(
        np.sort(group)[len(group) - k :].sum() for group, k in zip(scores, widths, strict=True)
    )


def _best(scores, fits, allowed):
    """The most that any widths keep, by trying them all."""
    choices = []
    for one in allowed:
        widths, width = [one.size], one.size
        while (width := one.down(width)) is not None:
            widths.append(width)
        choices.append(widths)
    return max(_kept(scores, widths) for widths in product(*choices) if fits(widths))


@pytest.mark.parametrize("seed", range(8))
def test_where_units_have_one_price_no_widths_keep_more_score(seed):
    draw = np.random.default_rng(seed)
    scores = [draw.random(n) ** 2 * scale for n, scale in ((5, 1.0), (4, 3.0), (3, 0.3))]
    allowed = [Ladder(size=len(group)) for group in scores]

    def fits(widths):
        return sum(widths) <= 7

    found = ranked(scores, sum, fits, allowed)
    assert sum(found) == 7
    assert _kept(scores, found) == pytest.approx(_best(scores, fits, allowed), rel=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_in_a_chain_where_savings_fall_as_neighbours_shrink_it_is_close_to_the_best(seed):
    draw = np.random.default_rng(seed)
    scores = [draw.random(n) for n in (6, 7, 5)]
    allowed = [Ladder(size=len(group)) for group in scores]

    def macs(widths):
        a, b, c = widths
        return 9 * a + a * b * 4 + b * c + 3 * c

    def fits(widths):
        return macs(widths) <= 0.5 * macs((6, 7, 5))

    found = ranked(scores, macs, fits, allowed)
    assert fits(found)
    assert _kept(scores, found) >= 0.93 * _best(scores, fits, allowed)
    for group in range(3):  # and not one more unit fits
        wider = [k + (g == group) for g, k in enumerate(found)]
        assert wider[group] > allowed[group].size or not fits(wider)


def _by_asking_all(scores, price, limit):
    """The same rule, every group asked at every step."""
    rising = [np.sort(group) for group in scores]
    keep = [len(group) for group in scores]

    def step(g, by):
        return [k + by * (i == g) for i, k in enumerate(keep)]

    while price(keep) > limit:
        ratios = [
            (rising[g][len(rising[g]) - keep[g]] / (price(keep) - price(step(g, -1))), g)
            for g in range(len(keep))
            if keep[g] > 1
        ]
        keep = step(min(ratios)[1], -1)
    while True:
        back = [
            (rising[g][len(rising[g]) - keep[g] - 1] / (price(step(g, 1)) - price(keep)), g)
            for g in range(len(keep))
            if keep[g] < len(rising[g]) and price(step(g, 1)) <= limit
        ]
        if not back:
            return keep
        keep = step(max(back)[1], 1)


@pytest.mark.parametrize("seed", range(12))
def test_the_heap_of_bounds_chooses_what_asking_every_group_at_every_step_chooses(seed):
    draw = np.random.default_rng(seed)
    scores = [draw.random(n) for n in (9, 12, 7, 10)]
    takes = draw.integers(1, 9, size=(4, 4))
    takes[0] *= 12  # units of very different prices, so that much is left to give back

    def price(widths):
        k = np.array(widths, dtype=float)
        return float(k @ takes @ k)

    limit = 0.4 * price((9, 12, 7, 10))
    found = ranked(
        scores, price, lambda k: price(k) <= limit, [Ladder(size=len(s)) for s in scores]
    )
    assert found == _by_asking_all(scores, price, limit)


def test_units_go_where_their_price_is_high_not_where_their_score_is_low():
    scores = [np.array([2.0, 2.0]), np.array([3.0, 3.0])]

    def price(widths):
        return widths[0] + 10 * widths[1]

    dear = ranked(scores, price, lambda k: price(k) <= 12, [Ladder(size=2)] * 2)
    each = ranked(scores, sum, lambda k: price(k) <= 12, [Ladder(size=2)] * 2)
    assert (dear, each) == ([2, 1], [2, 1])  # `each` has no choice: one of the dear ones must go
    assert ranked(scores, sum, lambda k: sum(k) <= 3, [Ladder(size=2)] * 2) == [1, 2]


def test_widths_keep_to_their_ladders():
    scores = [np.arange(1.0, 11.0), np.full(7, 0.1)]
    allowed = [Ladder(size=10, step=4, least=4), Ladder(size=7, step=2, least=2)]
    assert ranked(scores, sum, lambda k: sum(k) <= 11, allowed) == [8, 2]
