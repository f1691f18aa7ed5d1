"""η, σ and the weak columns of Algorithm 1, against numbers worked out by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espalier.compaction._purification import (
    Thresholds,
    column_energies,
    filter_energies,
    live_mean,
    weak_alone,
    weak_as_empty,
)
from espalier.errors import RequestError

# Two filters of one row of three taps, two channels.
W = torch.tensor([[[1.0, 0.0, 0.1], [0.0, 0.0, 0.0]], [[2.0, 0.0, 0.2], [0.3, 0.0, 0.0]]])


def test_column_and_filter_energies_by_hand():
    assert column_energies(W, 1).tolist() == [
        pytest.approx([5.0, 0.0, 0.05]),
        pytest.approx([0.09, 0.0, 0.0]),
    ]
    assert filter_energies(W, 0).tolist() == pytest.approx([1.01, 4.13])
    transposed = W.movedim(0, 1)
    assert torch.equal(column_energies(transposed, 0), column_energies(W, 1))
    assert torch.equal(filter_energies(transposed, 1), filter_energies(W, 0))
    linear = torch.tensor([[3.0, 0.0], [4.0, 1.0]])
    assert column_energies(linear, 1).tolist() == [[25.0], [1.0]]


def test_reading_a_by_hand():
    energies, channel = column_energies(W, 1).flatten(), torch.tensor([0, 0, 0, 1, 1, 1])
    plain = weak_as_empty(energies, channel, 0.0)
    assert plain.eta.tolist() == pytest.approx([2 / 3, 1 / 3])
    assert plain.sigma.tolist() == pytest.approx([5.05 / 3, 0.09 / 3])
    cut = weak_as_empty(energies, channel, 0.07)  # 0.05 goes, 0.09 stays
    assert cut.stays.tolist() == [True, False, False, True, False, False]
    assert cut.eta.tolist() == pytest.approx([1 / 3, 1 / 3])
    assert cut.sigma.tolist() == pytest.approx([5 / 3, 0.09 / 3])


def test_reading_b_by_hand():
    energies, channel = column_energies(W, 1).flatten(), torch.tensor([0, 0, 0, 1, 1, 1])
    found = weak_alone(energies, channel, 0.07)
    assert found.eta.tolist() == pytest.approx([1 / 3, 0])
    assert found.sigma.tolist() == pytest.approx([0.05 / 3, 0])
    assert found.stays.all()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 9), min_size=1, max_size=12), st.floats(0, 9), st.data())
def test_both_readings_are_the_sums_over_their_columns(values, threshold, data):
    channel = data.draw(st.lists(st.integers(0, 2), min_size=len(values), max_size=len(values)))
    channel = [sorted(set(channel)).index(c) for c in channel]
    energies = torch.tensor(values, dtype=torch.float64)
    for reading, counts in (
        (weak_as_empty, lambda e: e >= threshold),
        (weak_alone, lambda e: e < threshold),
    ):
        found = reading(energies, torch.tensor(channel), threshold)
        for j in set(channel):
            mine = [e for e, c in zip(values, channel, strict=True) if c == j]
            counted = [e for e in mine if counts(e)]
            assert found.eta[j] == pytest.approx(sum(e > 0 for e in counted) / len(mine))
            assert found.sigma[j] == pytest.approx(sum(counted) / len(mine))


def test_the_mean_is_over_what_is_left():
    assert live_mean(torch.tensor([0.0, 2.0, 4.0])) == 3.0
    assert live_mean(torch.zeros(3)) == 0.0


@pytest.mark.parametrize("wrong", [{"column": -1}, {"fraction": 1.1}, {"energy": float("nan")}])
def test_thresholds_out_of_range_are_refused(wrong):
    with pytest.raises(RequestError, match="0 or more"):
        Thresholds(**wrong)
