import pytest
import torch

from espalier.sets import Unstructured


@pytest.mark.parametrize(
    ("w", "keep", "z"),
    [
        ([1, -3, 2], 2, [0, -3, 2]),
        ([2, -2, 2, 2], 3, [2, -2, 2, 0]),
        ([[1, 1], [1, 1]], 2, [[1, 1], [0, 0]]),
        ([1, -3, 2], 0, [0, 0, 0]),
        ([1, -3, 2], 3, [1, -3, 2]),
        ([5], 1, [5]),
        ([5], 0, [0]),
        ([0, 0, 4], 2, [0, 0, 4]),
        ([], 0, []),
        (3, 1, 3),
        ([[], []], 0, [[], []]),
    ],
)
def test_the_largest_stay_and_of_equals_the_first(w, keep, z):
    w = torch.tensor(w, dtype=torch.float32)
    assert Unstructured().project(w, keep).tolist() == z


def test_the_metric_weighs():
    w, h = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([16.0, 1.0, 1.0])
    assert Unstructured().project(w, 1, h).tolist() == [1, 0, 0]
    assert Unstructured().project(w, 2, h * 0).tolist() == [1, 2, 0]


def test_float64_weights_are_compared_in_float64():
    w = torch.tensor([1.0, 1.0 + 1e-12], dtype=torch.float64)
    assert Unstructured().support(w, 1).tolist() == [False, True]


def test_contains_counts_every_nonzero():
    w = torch.tensor([0.0, -0.0, 1e-45, 1.0])
    assert Unstructured().contains(w, 2)
    assert not Unstructured().contains(w, 1)


def test_counts():
    assert Unstructured().units((2, 3, 4)) == 24
    assert Unstructured().units(()) == 1
    assert Unstructured().nonzeros((2, 3), 4) == 4
    assert Unstructured().keep_for((10, 10), 0.1) == 10
    assert Unstructured().keep_for((10, 10), 0.0) == 1
    assert Unstructured().keep_for((0, 10), 0.5) == 0
