"""Convolutions that hold their live columns alone: the same function, as edits, in a file, in ONNX."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from espalier import artifact
from espalier.compaction import ColumnEdit, Edits, apply_edits, compact
from espalier.compaction._columns import crops
from espalier.compaction._gathered import GatheredConv2d, columns_to_gather, scattered
from espalier.errors import CheckpointError, RequestError, UnknownNameError


def thin(net, live):
    """Zeros in every column but the live ones, numbered through (I, kh, kw)."""
    with torch.no_grad():
        mask = torch.zeros(net.weight[0].numel())
        mask[list(live)] = 1
        net.weight.mul_(mask.reshape(net.weight.shape[1:]))
    return net


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_gathered_convolution_computes_the_same(data):
    kernel = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    net = nn.Conv2d(
        3, 4, kernel, bias=data.draw(st.booleans()),
        padding=data.draw(st.tuples(st.integers(0, 3), st.integers(0, 3))),
        stride=data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        dilation=data.draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
    ).double()  # fmt: skip
    total = 3 * kernel[0] * kernel[1]
    live = data.draw(st.sets(st.integers(0, total - 1), min_size=1, max_size=total - 1))
    thin(net, live)
    slices = crops(net) if data.draw(st.booleans()) else ()
    cropped = apply_edits(net, Edits(slices=slices))
    columns = columns_to_gather(cropped, 1.0)
    if not columns:  # the crop has left live columns alone
        assert (cropped.weight != 0).flatten(1).any(0).all()
        return
    small = apply_edits(net, Edits(slices=slices, columns=columns))
    assert small.weight.shape == (4, len(live), 1, 1)
    assert torch.equal(scattered(small.weight, columns[0]), cropped.weight)
    for x in (
        torch.randn(2, 3, 9, 10, dtype=torch.float64),
        torch.randn(3, 9, 10, dtype=torch.float64),
    ):
        torch.testing.assert_close(small(x), net(x), rtol=1e-12, atol=1e-12)


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1, stride=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(75, 5),
    ).eval()  # fmt: skip


def masked():
    model = net()
    thin(model[2], (0, 8, 13, 31))  # channels 0, 0, 1 and 3: channel 2 goes
    return model


def test_gather_is_by_the_fraction_of_columns_and_off_by_default():
    x = torch.randn(2, 2, 11, 11)
    assert type(compact(masked(), x).model[2]) is nn.Conv2d
    assert type(compact(masked(), x, gather=0.1).model[2]) is nn.Conv2d  # 4 of 27 are left
    small = compact(masked(), x, gather=0.25)
    assert small.proof.holds
    assert type(small.model[0]) is nn.Conv2d
    assert type(small.model[2]) is GatheredConv2d
    assert small.model[2].weight.shape == (3, 4, 1, 1)
    assert "columns=4 of" in repr(small.model[2])
    assert small.after.parameters == small.after.nonzero
    with pytest.raises(RequestError, match=r"gather=1\.5"):
        compact(masked(), x, gather=1.5)


def test_the_artefact_stores_live_columns_and_gives_the_model_back_small_and_wide(tmp_path):
    x, file = torch.randn(2, 2, 11, 11), tmp_path / "small.espalier"
    small = compact(masked(), x, gather=1.0)
    assert Edits.from_data(small.edits.as_data()) == small.edits
    artifact.save(file, small)
    assert artifact.state_dict(file)["2.weight"].shape == (3, 4, 1, 1)
    assert torch.equal(artifact.load(file, net).eval()(x), small.model.eval()(x))
    wide = artifact.expand(file, net).eval()
    assert torch.equal(wide[2].weight, masked()[2].weight)
    torch.testing.assert_close(wide(x), masked()(x), rtol=1e-5, atol=1e-5)
    with pytest.raises(CheckpointError, match=r"2\.weight: the edit is for filters of shape"):
        artifact.load(file, other)


def other():
    """The same but for the kernel of the second convolution."""
    model = net()
    model[2] = nn.Conv2d(4, 3, 5, padding=2, stride=2)
    return model


def test_a_gathered_model_is_exported_and_trains():
    x = torch.randn(2, 2, 11, 11)
    small = compact(masked(), x, gather=1.0).model
    small(x).sum().backward()
    assert small[2].weight.grad.shape == (3, 4, 1, 1)
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from espalier.export import to_onnx

    done = to_onnx(small, x)
    assert done.difference <= 1e-5 * done.scale


def test_what_cannot_be_gathered_is_left_or_refused():
    grouped = thin(nn.Conv2d(4, 4, 3, groups=2), (0,))
    assert columns_to_gather(grouped, 1.0) == ()
    assert columns_to_gather(thin(nn.Conv2d(1, 1, 3), ()), 1.0) == ()
    edit = ColumnEdit(name="weight", shape=(2, 3, 3), keep=(0,))
    with pytest.raises(RequestError, match="only columns of a plain Conv2d"):
        apply_edits(grouped, Edits(columns=(edit,)))
    with pytest.raises(RequestError, match="only columns of a plain Conv2d"):
        apply_edits(nn.Conv2d(2, 1, 3), Edits(columns=(edit, edit)))
    with pytest.raises(RequestError, match=r"filters of shape \(2, 3, 3\)"):
        apply_edits(nn.Conv2d(3, 1, 3), Edits(columns=(edit,)))
    with pytest.raises(UnknownNameError, match="no such module"):
        apply_edits(
            nn.Conv2d(2, 1, 3),
            Edits(columns=(ColumnEdit(name="a.weight", shape=(2, 3, 3), keep=(0,)),)),
        )
    data = {"slices": [], "attributes": []}
    for keep in ([], [1, 0], [-1], [18]):
        with pytest.raises(RequestError, match="kept columns must ascend"):
            Edits.from_data({**data, "columns": [{"name": "w", "shape": [2, 3, 3], "keep": keep}]})
