"""Kernels cut to their live positions: the same function, smaller, as edits, in a file, in ONNX."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from espalier import artifact
from espalier.compaction import Edits, SliceEdit, apply_edits, compact
from espalier.compaction._columns import PaddedConv2d, crops
from espalier.errors import RequestError


def box(net, rows, cols):
    """Zeros outside the rows and columns of positions that are named."""
    with torch.no_grad():
        mask = torch.zeros(net.weight.shape[2:])
        mask[rows[0] : rows[1], cols[0] : cols[1]] = 1
        net.weight.mul_(mask)
    return net


@st.composite
def boxes(draw, size):
    low = draw(st.integers(0, size - 1))
    return low, draw(st.integers(low + 1, size))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_cropped_convolution_computes_the_same(data):
    kernel = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    groups = data.draw(st.sampled_from([1, 2]))
    net = nn.Conv2d(
        4, 4, kernel, groups=groups, bias=data.draw(st.booleans()),
        padding=data.draw(st.tuples(st.integers(0, 3), st.integers(0, 3))),
        stride=data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        dilation=data.draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
    ).double()  # fmt: skip
    rows, cols = data.draw(boxes(kernel[0])), data.draw(boxes(kernel[1]))
    box(net, rows, cols)
    edits = crops(net)
    small = apply_edits(net, Edits(slices=edits))
    assert small.weight.shape[2:] == (rows[1] - rows[0], cols[1] - cols[0])
    assert small.kernel_size == tuple(small.weight.shape[2:])
    x = torch.randn(2, 4, 11, 12, dtype=torch.float64)
    torch.testing.assert_close(small(x), net(x), rtol=1e-12, atol=1e-12)
    assert crops(small) == ()


def test_the_middle_of_a_padded_kernel_is_an_ordinary_convolution_and_a_corner_is_not():
    middle = box(nn.Conv2d(2, 3, 3, padding=1), (1, 2), (1, 2))
    small = apply_edits(middle, Edits(slices=crops(middle)))
    assert type(small) is nn.Conv2d
    assert (small.kernel_size, small.padding) == ((1, 1), (0, 0))
    corner = box(nn.Conv2d(2, 3, 3, padding=1), (0, 2), (1, 3))
    small = apply_edits(corner, Edits(slices=crops(corner)))
    assert type(small) is PaddedConv2d
    assert (small.border, small.padding) == ((0, 1, 1, 0), (0, 0))
    assert "border=(0, 1, 1, 0)" in repr(small)


def lenet():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(48, 5),
    ).eval()  # fmt: skip


def masked():
    net = lenet()
    box(net[0], (1, 4), (0, 4))
    box(net[3], (0, 3), (1, 2))
    with torch.no_grad():
        net[3].weight[:, 2] = 0  # a channel goes as well
    return net


def test_compact_crops_proves_and_the_artefact_and_onnx_hold_the_same(tmp_path):
    net, x = masked(), torch.randn(2, 1, 12, 12)
    small = compact(net, x)
    assert small.proof.holds
    assert small.model[0].weight.shape == (3, 1, 3, 4)
    assert small.model[3].weight.shape == (3, 3, 3, 1)
    assert small.after.nonzero == small.after.parameters
    again = Edits.from_data(small.edits.as_data())
    assert again == small.edits
    file = tmp_path / "small.espalier"
    artifact.save(file, small)
    read = artifact.load(file, lenet).eval()
    assert type(read[0]) is PaddedConv2d
    assert torch.equal(read(x), small.model.eval()(x))
    wide = artifact.expand(file, lenet).eval()
    assert wide[0].weight.shape == (4, 1, 5, 5)
    torch.testing.assert_close(wide(x), net(x), rtol=1e-5, atol=1e-5)
    twice = compact(small.model, x)
    assert twice.edits == Edits()


def test_cropped_convolutions_are_exported():
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from espalier.export import to_onnx

    x = torch.randn(2, 1, 12, 12)
    done = to_onnx(compact(masked(), x).model, x)
    assert done.difference <= 1e-5 * done.scale


def test_costs_count_the_cropped_kernel():
    from espalier.measure import layer_costs

    x = torch.randn(1, 1, 12, 12)
    assert layer_costs(compact(masked(), x).model, x)["0.weight"].macs == 3 * 12 * 64


class ByHand(nn.Module):
    """Uses the weight of a convolution by itself, with a padding of its own."""

    def __init__(self):
        super().__init__()
        self.conv = box(nn.Conv2d(2, 2, 3), (0, 2), (0, 3))

    def forward(self, x):
        return nn.functional.conv2d(x, self.conv.weight, padding=1)


def test_what_cannot_be_cropped_is_left_as_it_was():
    net = ByHand().eval()
    assert compact(net, torch.randn(1, 2, 6, 6)).edits == Edits()
    assert crops(box(nn.Conv2d(2, 2, 3, padding="same"), (0, 1), (0, 1))) == ()
    assert crops(box(nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), (0, 1), (0, 1))) == ()
    assert crops(box(nn.Conv2d(2, 2, 3), (0, 0), (0, 0))) == ()  # nothing is left
    one, two = box(nn.Conv2d(2, 2, 3), (0, 1), (0, 1)), nn.Conv2d(2, 2, 3)
    two.weight = one.weight
    assert crops(nn.Sequential(one, two)) == ()


def test_edits_of_a_kernel_that_are_no_crop_are_refused():
    gap = Edits(slices=(SliceEdit(name="weight", axis=2, size=3, keep=(0, 2)),))
    with pytest.raises(RequestError, match="not neighbours"):
        apply_edits(nn.Conv2d(1, 1, 3), gap)
    half = Edits(slices=(SliceEdit(name="weight", axis=2, size=3, keep=(0, 1)),))
    with pytest.raises(RequestError, match="only the kernel of a plain Conv2d"):
        apply_edits(nn.ConvTranspose2d(1, 1, 3), half)
