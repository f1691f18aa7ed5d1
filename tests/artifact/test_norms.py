"""Norms that go on counting, in an artefact and in ONNX."""

import importlib.util
from dataclasses import replace

import pytest
import torch
from torch import nn

from espalier import export
from espalier.artifact import expand, load, save
from espalier.compaction import BranchEdit, NormEdit, compact
from espalier.errors import CheckpointError, RequestError
from espalier.graph import channel_graph


class RootMeanSquare(nn.Module):
    """As transformers writes it."""

    def __init__(self, size):
        super().__init__()
        self.weight, self.variance_epsilon = nn.Parameter(torch.ones(size)), 1e-5

    def forward(self, x):
        return (
            self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        )


NORMS = {"LayerNorm": nn.LayerNorm, "RMSNorm": RootMeanSquare}


def make(name):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 8), NORMS[name](8), nn.GELU(), nn.Linear(8, 2))


def shrunk(name):
    net, x = make(name), torch.randn(4, 3)
    with torch.no_grad():
        net[1].weight.uniform_(0.5, 1.5)
    graph = channel_graph(net, x)
    graph.zero_(net, [unit.id for unit in graph.removable[0].units[:5]])
    return net, compact(net, x, graph=graph), x


@pytest.mark.parametrize("name", NORMS)
def test_a_compact_norm_comes_back_from_its_artefact(tmp_path, name):
    masked, small, x = shrunk(name)
    save(tmp_path / "net.espalier", small)
    loaded = load(tmp_path / "net.espalier", lambda: make(name))
    assert torch.equal(loaded(x), small.model(x))
    assert loaded[0].out_features == 3
    wide = expand(tmp_path / "net.espalier", lambda: make(name))
    assert wide[1].weight.shape == (8,)
    torch.testing.assert_close(wide(x), masked(x))


def test_an_artefact_of_another_norm_is_refused(tmp_path):
    _, small, _ = shrunk("LayerNorm")
    save(tmp_path / "net.espalier", small)
    with pytest.raises(CheckpointError):
        load(tmp_path / "net.espalier", lambda: make("RMSNorm"))


@pytest.mark.parametrize(
    "odd",
    [
        {"norms": (NormEdit(module="1.__class__", axis=1, size=8),)},
        {"norms": (NormEdit(module="1", axis=0, size=8),)},
        {"norms": (NormEdit(module="1", axis=1, size=1 << 40),)},
        {"norms": (NormEdit(module="1", axis=1, size=8, eps="__doc__"),)},
        {"branches": (BranchEdit(module="", shape=(1, 8), nones=-1),)},
        {"branches": (BranchEdit(module="1", shape=(8, 8), nones=-1),)},
        {"branches": (BranchEdit(module="1", shape=(), nones=-1),)},
        {"branches": (BranchEdit(module="1", shape=(1, 8), nones=99),)},
    ],
)
def test_edits_that_cannot_be_true_are_not_read_back(tmp_path, odd):
    _, small, _ = shrunk("LayerNorm")
    wrong = replace(small, edits=replace(small.edits, **odd))
    with pytest.raises(RequestError, match="could not be read back"):
        save(tmp_path / "net.espalier", wrong)


@pytest.mark.skipif(
    any(importlib.util.find_spec(n) is None for n in ("onnx", "onnxscript", "onnxruntime")),
    reason="the extra onnx is not installed",
)
@pytest.mark.parametrize("name", NORMS)
def test_onnx_runtime_runs_a_norm_that_counts_on(name):
    masked, small, x = shrunk(name)
    found = export.to_onnx(small.model, x)
    run = export.session(found.data, threads=1)
    for batch in (1, 6):
        x = torch.randn(batch, 3)
        torch.testing.assert_close(run(x), masked(x).detach(), rtol=1e-4, atol=1e-5)
