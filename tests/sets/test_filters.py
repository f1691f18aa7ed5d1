import pytest
import torch

from espalier.errors import ShapeError
from espalier.sets import Filters


@pytest.mark.parametrize(
    ("w", "keep", "kept"),
    [
        ([[3, 4], [1, 0], [0, 6]], 1, [0, 0, 1]),
        ([[3, 4], [5, 0], [0, 5]], 2, [1, 1, 0]),
        ([[1, 1], [1, 1]], 0, [0, 0]),
        ([[1, 1], [0, 0]], 2, [1, 1]),
        ([[7]], 1, [1]),
    ],
)
def test_the_filters_of_largest_norm_stay_and_of_equals_the_first(w, keep, kept):
    w = torch.tensor(w, dtype=torch.float32)
    assert Filters().support(w, keep).tolist() == [[bool(k)] * w.shape[1] for k in kept]


@pytest.mark.parametrize("shape", [(8, 3), (8, 3, 5), (8, 3, 3, 3), (8, 1, 2, 2, 2), (0, 4)])
def test_filters_are_counted_on_the_first_axis(shape):
    Filters().check(shape, groups=8)
    assert Filters().units(shape) == shape[0]
    assert Filters().project(torch.ones(shape), shape[0] // 2).count_nonzero() == (
        Filters().nonzeros(shape, shape[0] // 2)
    )


def test_a_vector_has_no_filters():
    with pytest.raises(ShapeError, match="has no filters"):
        Filters().units((8,))
