import pytest
import torch

from espalier.errors import ShapeError
from espalier.sets import Filters, Kernels


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        (0, [[0, 0], [0, 0]]),
        (1, [[0, 0], [1, 0]]),
        (2, [[1, 0], [1, 0]]),
        (3, [[1, 0], [1, 1]]),
        (4, [[1, 1], [1, 1]]),
    ],
)
def test_the_kernels_of_largest_norm_stay_and_of_equals_the_first(keep, kept):
    w = torch.tensor([[[3.0, 4.0], [1.0, 1.0]], [[5.0, 1.0], [0.0, 5.0]]])
    assert Kernels().support(w, keep)[..., 0].tolist() == kept


@pytest.mark.parametrize("shape", [(4, 3, 5), (4, 3, 3, 3), (4, 3, 2, 2, 2)])
def test_kernels_of_one_two_and_three_dimensions(shape):
    assert Kernels().units(shape) == 12
    assert Kernels().project(torch.ones(shape), 5).count_nonzero() == Kernels().nonzeros(shape, 5)


def test_kernels_of_a_depthwise_convolution_are_its_filters():
    w = torch.randn(6, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    Kernels().check(w.shape, groups=6)
    assert torch.equal(Kernels().support(w, 2), Filters().support(w, 2))


def test_a_linear_has_no_kernels():
    with pytest.raises(ShapeError, match="has no kernels"):
        Kernels().check((4, 3))
