"""Branches of which nothing is left, taken out with their modules."""

import pytest
import torch
from torch import nn

from espalier.artifact import expand, load, save
from espalier.compaction import Constant, compact
from espalier.compaction._branches import still_branches
from espalier.errors import CheckpointError
from espalier.graph import channel_graph


class Block(nn.Module):
    """As in a transformer: attention and an MLP, each behind a norm and beside a shortcut."""

    def __init__(self, width=8):
        super().__init__()
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 12), nn.GELU(), nn.Linear(12, width))

    def forward(self, x):
        y = self.before(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.after(x))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(3, 8), nn.Linear(8, 2)
        self.blocks = nn.ModuleList(Block() for _ in range(3))

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def masked(*branches, bias=0.0):
    torch.manual_seed(0)
    net, x = Net().eval(), torch.randn(2, 5, 3)
    graph = channel_graph(net, x)
    for group in graph.removable:
        # The units of the stream are created by branches too, and by the stem.
        inner = all(not name.startswith("stem") for name, _ in group.producers)
        if inner and any(n.startswith(b) for n, _ in group.producers for b in branches):
            graph.zero_(net, [unit.id for unit in group.units])
    with torch.no_grad():
        for branch in branches:
            last = net.get_submodule(branch)
            last = last.out_proj if isinstance(last, nn.MultiheadAttention) else last[2]
            last.bias.fill_(bias)
    return net, x


@pytest.mark.parametrize("bias", [0.0, 0.7])
def test_a_branch_whose_every_unit_is_gone_is_removed_with_its_module(bias):
    net, x = masked("blocks.0.mlp", "blocks.1.attention", bias=bias)
    small = compact(net, x)
    assert {edit.module for edit in small.edits.branches} == {"blocks.0.mlp", "blocks.1.attention"}
    assert isinstance(small.model.blocks[0].mlp, Constant)
    assert isinstance(small.model.blocks[1].attention, Constant)
    for batch in (x, torch.randn(3, 7, 3)):
        torch.testing.assert_close(small.model(batch), net(batch), rtol=1e-5, atol=1e-6)


def test_a_branch_that_says_anything_stays():
    net, x = masked("blocks.0.mlp", "blocks.1.mlp")
    with torch.no_grad():
        net.blocks[0].mlp[0].bias[3], net.blocks[0].mlp[2].weight[1, 3] = 0.2, 0.5
        net.blocks[0].mlp[0].weight[3, 0] = 0.1
    assert [edit.module for edit, _ in still_branches(net, x)] == ["blocks.1.mlp"]
    assert [edit.module for edit in compact(net, x).edits.branches] == ["blocks.1.mlp"]


def test_a_removed_branch_comes_back_from_its_artefact(tmp_path):
    net, x = masked("blocks.0.mlp")
    small = compact(net, x)
    save(tmp_path / "net.espalier", small)
    assert torch.equal(load(tmp_path / "net.espalier", Net).eval()(x), small.model(x))
    wide = expand(tmp_path / "net.espalier", Net).eval()
    assert wide.blocks[0].mlp[0].weight.shape == (12, 8)
    torch.testing.assert_close(wide(x), net(x))


def test_a_constant_that_no_zeros_stand_for_is_loaded_and_not_expanded(tmp_path):
    net, x = masked("blocks.0.mlp", bias=0.3)
    small = compact(net, x)
    save(tmp_path / "net.espalier", small)
    assert torch.equal(load(tmp_path / "net.espalier", Net).eval()(x), small.model(x))
    with pytest.raises(CheckpointError, match=r"blocks\.0\.mlp: removed"):
        expand(tmp_path / "net.espalier", Net)
