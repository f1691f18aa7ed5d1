import pytest
import torch

from espalier.errors import ShapeError
from espalier.sets import KernelPatterns
from espalier.sets._kernel_patterns import STAYS, ZEROS


def kernel(positions):
    return torch.tensor([float(a in positions) for a in range(9)]).reshape(1, 1, 3, 3)


def test_there_are_thirteen_different_patterns_of_five():
    assert len(set(STAYS)) == 13
    assert all(len(stays) == 5 and {*stays, *zeros} == {*range(9)}
               for stays, zeros in zip(STAYS, ZEROS, strict=True))  # fmt: skip


@pytest.mark.parametrize("stays", STAYS)
def test_every_pattern_is_its_own_projection(stays):
    assert torch.equal(KernelPatterns().project(kernel(stays), 1), kernel(stays))
    assert KernelPatterns().contains(kernel(stays), 1)


def test_of_equal_patterns_the_first_is_taken():
    mask = KernelPatterns().support(torch.ones(1, 1, 3, 3), 1)
    assert mask.flatten().nonzero().flatten().tolist() == list(STAYS[0])


def test_every_kernel_keeps_five_positions_of_the_best_pattern():
    w = torch.randn(8, 7, 3, 3, generator=torch.Generator().manual_seed(0))
    mask = KernelPatterns().support(w, 56)
    for e, stay in zip(w.square().reshape(-1, 9), mask.reshape(-1, 9), strict=True):
        chosen = tuple(stay.nonzero().flatten().tolist())
        assert chosen in STAYS
        assert e[stay].sum() == max(e[list(stays)].sum() for stays in STAYS)


def test_kernels_are_ranked_by_what_their_pattern_retains():
    inside = 2 * kernel(STAYS[3])
    outside = 3 * kernel((0, 4))  # more energy than fits any one pattern? no: 18 < 20
    w = torch.cat([outside, inside])
    assert KernelPatterns().support(w, 1)[1].any()
    assert not KernelPatterns().support(w, 1)[0].any()


def test_contains_refuses_five_that_are_no_pattern_and_six():
    assert not KernelPatterns().contains(kernel((0, 1, 2, 3, 4)), 1)
    assert not KernelPatterns().contains(kernel((0, 1, 2, 3, 4, 5)), 1)
    assert KernelPatterns().contains(kernel(()), 0)
    assert not KernelPatterns().contains(kernel((4,)), 0)


def test_full_keep_leaves_five_ninths():
    assert KernelPatterns().nonzeros((4, 2, 3, 3), 8) == 40
    assert KernelPatterns().keep_for((4, 2, 3, 3), 1.0) == 8


@pytest.mark.parametrize("shape", [(4, 2, 1, 1), (4, 2, 5, 5), (4, 2, 3), (4, 9), (4, 2, 3, 3, 3)])
def test_other_kernels_than_3_by_3_are_refused(shape):
    with pytest.raises(ShapeError, match="3×3"):
        KernelPatterns().check(shape)
