import pytest
import torch

from espalier.errors import RequestError, ShapeError
from espalier.sets import NOfM


@pytest.mark.parametrize(
    ("w", "keep", "z"),
    [
        ([1, -3, 2, 2, 1, 1, 1, 1], 2, [0, -3, 2, 0, 1, 1, 0, 0]),
        ([1, -3, 2, 2, 1, 1, 1, 1], 1, [0, -3, 2, 0, 0, 0, 0, 0]),
        ([1, -3, 2, 2, 1, 1, 1, 1], 0, [0] * 8),
        ([1, 1, 0, 0, 0, 1, 1, 0], 1, [1, 1, 0, 0, 0, 0, 0, 0]),
        ([0, 0, 0, 0, 0, 0, 0, 5], 2, [0, 0, 0, 0, 0, 0, 0, 5]),
        ([3, 3, 3, 3, 4, 4, 0, 0], 1, [0, 0, 0, 0, 4, 4, 0, 0]),
    ],
)
def test_two_of_four_stay_and_of_equals_the_first(w, keep, z):
    w = torch.tensor([w], dtype=torch.float32)
    assert NOfM(2, 4).project(w, keep).tolist() == [z]


def test_groups_run_along_the_input_axis():
    w = torch.tensor([[1.0, 2.0], [2.0, 1.0]]).reshape(1, 2, 2)  # (O, I, k)
    assert NOfM(1, 2).project(w, 2).tolist() == [[[0, 2], [2, 0]]]


def test_contains_asks_for_both_counts():
    w = torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    assert NOfM(2, 4).contains(w, 1)
    assert not NOfM(1, 4).contains(w, 2)
    assert not NOfM(2, 4).contains(w.roll(3, 1), 1)


def test_counts():
    assert NOfM(2, 4).units((3, 8, 2)) == 12
    assert NOfM(2, 4).nonzeros((3, 8, 2), 5) == 10
    assert NOfM(2, 4).keep_for((3, 8, 2), 0.5) == 12
    assert NOfM(2, 4).keep_for((3, 8, 2), 1.0) == 12
    assert NOfM(2, 4).keep_for((3, 8, 2), 0.25) == 6


def test_m_that_does_not_divide_the_inputs_is_refused_with_what_does():
    with pytest.raises(ShapeError, match="m can be 1, 2, 3, 6"):
        NOfM(2, 4).check((8, 6, 3, 3))
    with pytest.raises(ShapeError):
        NOfM(2, 4).check((8, 1, 3, 3), groups=8)


@pytest.mark.parametrize(("n", "m"), [(0, 4), (5, 4), (-1, 2)])
def test_what_is_no_n_of_m_is_refused(n, m):
    with pytest.raises(RequestError, match=r"n >= 1|1 <= n <= m"):
        NOfM(n, m)
