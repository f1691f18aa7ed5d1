"""Export to ONNX: the same outputs at any batch size, or nothing."""

import importlib.util

import pytest
import torch
from torch import nn

from espalier import export
from espalier.errors import RequestError, RunError
from espalier.export import _onnx as module
from espalier.export._check import agreement


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2)
    )


needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(n) is None for n in ("onnx", "onnxscript", "onnxruntime")),
    reason="the extra onnx is not installed",
)


@needs_onnx
def test_any_batch_size_gives_what_the_model_gives(net):
    net.train()
    found = export.to_onnx(net, torch.randn(1, 1, 6, 6))
    assert net.training
    assert found.batch is None
    assert found.difference <= 1e-5 * found.scale
    net.eval()
    run = export.session(found.data, threads=1)
    for batch in (1, 2, 7):
        inputs = torch.randn(batch, 1, 6, 6)
        torch.testing.assert_close(run(inputs), net(inputs).detach(), rtol=1e-4, atol=1e-5)


class Maps(torch.nn.Module):
    """Two outputs of two sizes, as detectors have them; the second by name too."""

    def __init__(self, named):
        super().__init__()
        self.one, self.two = torch.nn.Conv2d(1, 3, 3), torch.nn.Conv2d(3, 5, 3)
        self.named = named

    def forward(self, x):
        first = self.one(x)
        second = self.two(first)
        return {"coarse": second, "fine": first} if self.named else (second, first)


@needs_onnx
@pytest.mark.parametrize("named", [False, True])
def test_several_outputs_are_all_compared(named):
    model = Maps(named).eval()
    found = export.to_onnx(model, torch.randn(2, 1, 6, 6))
    x = torch.randn(3, 1, 6, 6)
    expected = model(x)
    second, first = expected.values() if named else expected
    got = export.session(found.data)(x)
    torch.testing.assert_close(got, (second.detach(), first.detach()), rtol=1e-4, atol=1e-5)
    other = Maps(named).eval()
    other.one.load_state_dict(model.one.state_dict())  # the first output it computes is the same
    with pytest.raises(RunError, match="computes something else"):
        agreement(other, export.session(found.data), [x], runtime="ONNX Runtime")


@needs_onnx
def test_a_fixed_batch_size_is_kept(net):
    found = export.to_onnx(net, torch.randn(1, 1, 6, 6), [torch.randn(9, 1, 6, 6)], batch=4)
    assert (found.batch, found.batches) == (4, 3)
    assert export.session(found.data)(torch.zeros(4, 1, 6, 6)).shape == (4, 2)


@needs_onnx
def test_what_computes_something_else_is_not_handed_out(net, monkeypatch):
    true = module.session
    monkeypatch.setattr(module, "session", lambda data: lambda x: true(data)(x) * 1.01)
    with pytest.raises(RunError, match="computes something else"):
        export.to_onnx(net, torch.randn(1, 1, 6, 6), batch=1)


@needs_onnx
def test_a_model_that_cannot_be_exported_is_refused():
    class Odd(nn.Module):
        def forward(self, x):
            return x if x.sum().item() > 0 else -x

    with pytest.raises(RequestError, match="cannot be exported to ONNX"):
        export.to_onnx(Odd(), torch.randn(1, 2), batch=1)


def test_without_the_extra_the_answer_says_what_to_install(net, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"pip install 'espalier\[onnx\]'"):
        export.to_onnx(net, torch.randn(1, 1, 6, 6))


def test_a_batch_size_below_one_is_refused(net, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: True)
    with pytest.raises(RequestError, match="batch=0"):
        export.to_onnx(net, torch.randn(1, 1, 6, 6), batch=0)
