import pytest
import torch

from espalier.errors import RequestError, ShapeError
from espalier.sets import Blocks, Filters, Unstructured


@pytest.mark.parametrize(
    ("keep", "kept"),
    [(0, [0, 0, 0, 0]), (1, [0, 1, 0, 0]), (2, [1, 1, 0, 0]), (3, [1, 1, 1, 0]), (4, [1, 1, 1, 1])],
)
def test_the_blocks_of_largest_norm_stay_and_of_equals_the_first(keep, kept):
    w = torch.tensor([[3.0, 4.0, 9.0, 0.0], [5.0, 0.0, 0.0, 5.0]])
    mask = Blocks(1, 2).support(w, keep)
    assert mask[:, ::2].flatten().tolist() == kept
    assert mask[:, 1::2].flatten().tolist() == kept


def test_blocks_tile_the_gemm_view():
    w = torch.zeros(4, 2, 3)
    w[2, 1, 0] = w[3, 1, 2] = 1  # rows 2-3, columns 3-5: one block of 2×3
    assert Blocks(2, 3).contains(w, 1)
    assert not Blocks(2, 2).contains(w, 1)
    assert Blocks(2, 3).support(w, 1).nonzero()[:, 0].unique().tolist() == [2, 3]


def test_extreme_blocks_are_other_sets():
    w = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Blocks(1, 1).support(w, 7), Unstructured().support(w, 7))
    assert torch.equal(Blocks(1, 6).support(w, 3), Filters().support(w, 3))


def test_blocks_that_do_not_tile_are_refused_with_what_does():
    with pytest.raises(ShapeError, match=r"4×4 do not tile the 6×25 .* 1, 2, 3, 6; .* 1, 5, 25"):
        Blocks(4, 4).check((6, 1, 5, 5))
    for one_side in (Blocks(4, 5), Blocks(2, 4)):
        with pytest.raises(ShapeError, match="do not tile"):
            one_side.check((6, 1, 5, 5))


def test_blocks_across_the_groups_of_a_convolution_are_refused():
    Blocks(2, 3).check((8, 3), groups=4)
    with pytest.raises(ShapeError, match="span the 4 groups"):
        Blocks(4, 3).check((8, 3), groups=4)


def test_a_side_below_one_is_refused():
    with pytest.raises(RequestError, match="h >= 1"):
        Blocks(0, 4)
