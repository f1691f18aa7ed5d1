import pytest
import torch

from espalier.errors import ShapeError
from espalier.sets import Channels


@pytest.mark.parametrize(
    ("keep", "kept"), [(0, [0, 0, 0]), (1, [0, 1, 0]), (2, [1, 1, 0]), (3, [1, 1, 1])]
)
def test_the_channels_of_largest_norm_stay_and_of_equals_the_first(keep, kept):
    w = torch.tensor([[[2.0, 0.0], [3.0, 3.0], [0.0, 0.0]], [[0.0, 0.0], [3.0, 3.0], [0.0, 2.0]]])
    assert Channels().support(w, keep)[0, :, 0].tolist() == kept
    assert Channels().support(w, keep)[1, :, 1].tolist() == kept


def test_channels_of_a_linear_are_its_inputs():
    Channels().check((4, 7))
    assert Channels().units((4, 7)) == 7
    assert Channels().nonzeros((4, 7), 2) == 8


def test_a_grouped_convolution_is_refused_with_the_reason():
    with pytest.raises(ShapeError, match="in 2 groups: input index i is another feature map"):
        Channels().check((4, 2, 3, 3), groups=2)
