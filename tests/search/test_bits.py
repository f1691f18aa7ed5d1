"""The search for bits: against exhaustive enumeration, within its bound, and under its guard."""

from itertools import product

import pytest
from torch import nn

from espalier.errors import RequestError
from espalier.search import search_bits
from espalier.search._bits import fc_first

NEEDS = {"fc": 1, "conv2": 3, "conv1": 4}


def accuracy(bits):
    """0.1 is lost for every bit that a layer is short of."""
    return 1.0 - 0.1 * sum(max(0, NEEDS[n] - bits[n]) for n in NEEDS)


def test_the_fewest_bits_are_found_where_layers_do_not_interact():
    found = search_bits(list(NEEDS), accuracy, reference=1.0, guard=0.0, high=6)
    best = min(
        (
            b
            for b in product(range(1, 7), repeat=3)
            if accuracy(dict(zip(NEEDS, b, strict=True))) >= 1
        ),
        key=sum,
    )
    assert tuple(found.bits.values()) == best
    assert found.met
    assert found.metric == 1.0
    assert len(found.tried) <= 3 * 5 + 1


def test_the_guard_holds_for_all_layers_together_and_the_first_in_order_is_served_first():
    found = search_bits(list(NEEDS), accuracy, reference=1.0, guard=0.15, high=6)
    assert found.bits == {"fc": 1, "conv2": 2, "conv1": 4}
    assert found.metric >= 1.0 - 0.15
    other = search_bits(list(reversed(NEEDS)), accuracy, reference=1.0, guard=0.15, high=6)
    assert other.bits == {"conv1": 3, "conv2": 3, "fc": 1}


def test_every_trial_is_reported_as_it_was_judged():
    seen = []
    found = search_bits(
        list(NEEDS),
        lambda bits: seen.append(dict(bits)) or accuracy(bits),
        reference=1.0,
        guard=0.05,
    )
    assert [dict(trial.bits) for trial in found.tried] == seen
    assert all(trial.accepted == (accuracy(trial.bits) >= 0.95) for trial in found.tried)
    assert dict([t for t in found.tried if t.accepted][-1].bits) == found.bits
    assert found.to_dict()["tried"][0]["bits"] == dict.fromkeys(NEEDS, 8)


def test_what_no_number_of_bits_meets_is_said():
    found = search_bits(["a"], lambda bits: 0.5, reference=1.0, guard=0.1, high=3)
    assert not found.met
    assert found.bits == {"a": 3}
    assert len(found.tried) == 3


def test_linear_layers_first_the_largest_of_them_first():
    model = nn.Sequential(nn.Conv2d(1, 9, 5), nn.Linear(3, 4), nn.Linear(5, 6), nn.Conv2d(1, 10, 5))
    names = ["0.weight", "1.weight", "2.weight", "3.weight", "0.bias"]
    assert fc_first(model, names) == ("2.weight", "1.weight", "3.weight", "0.weight", "0.bias")


@pytest.mark.parametrize("wrong", [{"guard": -0.1}, {"low": 0}, {"low": 4, "high": 3}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(RequestError, match="low <= high"):
        search_bits(["a"], accuracy, **{"reference": 1.0, "guard": 0.0, **wrong})
