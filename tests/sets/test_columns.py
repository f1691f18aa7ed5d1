import pytest
import torch

from espalier.errors import ShapeError
from espalier.sets import Channels, Columns


def test_a_column_is_one_position_of_one_channel():
    w = torch.arange(16.0).reshape(2, 2, 2, 2)
    mask = Columns().support(w, 1)
    assert mask.nonzero().tolist() == [[0, 1, 1, 1], [1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("keep", "kept"), [(0, [0, 0, 0, 0]), (1, [1, 0, 0, 0]), (3, [1, 1, 1, 0]), (4, [1, 1, 1, 1])]
)
def test_of_equal_columns_the_first_stay(keep, kept):
    assert Columns().support(torch.ones(3, 2, 2), keep)[1].flatten().tolist() == kept


def test_columns_of_a_linear_are_its_channels():
    w = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Columns().support(w, 3), Channels().support(w, 3))


def test_a_grouped_convolution_is_refused_with_the_reason():
    with pytest.raises(ShapeError, match="columns of a convolution in 4 groups"):
        Columns().check((4, 1, 3, 3), groups=4)
