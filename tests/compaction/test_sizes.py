"""Sizes that a forward says in its own way: found, edited, and exact at two sizes."""

import copy
import types

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from espalier.artifact import expand, load, save
from espalier.compaction import compact, compare
from espalier.graph import channel_graph


class Cut(nn.Module):
    """Channels cut into 16, 8 and 24, each part read by a layer of its own."""

    def __init__(self):
        super().__init__()
        self.p, self.q, self.r, self.some = 16, 8, 24, [16, 8, 24]
        self.config = types.SimpleNamespace(width_a=16, width_b=8, width_c=24)
        self.into, self.norm = nn.Conv2d(3, 48, 3, padding=1), nn.BatchNorm2d(48)
        self.x, self.y, self.z = (nn.Conv2d(n, 10, 1) for n in (16, 8, 24))
        self.head = nn.Linear(10, 5)

    def forward(self, x):
        a, b, c = self.cut(self.norm(self.into(x)).relu())
        return self.head((self.x(a) + self.y(b) + self.z(c)).mean((2, 3)))


class Listed(Cut):
    def cut(self, x):
        return torch.split(x, self.some, 1)


class Named(Cut):
    def cut(self, x):
        return x.split([self.p, self.q, self.r], 1)


class Narrowed(Cut):
    def cut(self, x):
        p, q = self.p, self.q
        return x.narrow(1, 0, p), x.narrow(1, p, q), x.narrow(1, p + q, self.r)


class Sliced(Cut):
    def cut(self, x):
        return x[:, : self.p], x[:, self.p : self.p + self.q], x[:, self.p + self.q :]


class Configured(Cut):
    def cut(self, x):
        held = self.config
        return x.split([held.width_a, held.width_b, held.width_c], 1)


class Said(Cut):
    def forward(self, x):
        x = self.norm(self.into(x)).relu()
        a, b, c = x.split([16, 8, 24], 1)
        return self.head((self.x(a) + self.y(b) + self.z(c)).mean((2, 3)))


class FromTheEnd(Cut):
    def forward(self, x):
        x = self.norm(self.into(x)).relu()
        return self.head(
            (self.x(x[:, :16]) + self.y(x[:, 16:-24]) + self.z(x[:, -24:])).mean((2, 3))
        )


class GroupedQueries(nn.Module):
    """Queries twice as wide as keys and values, in one matrix."""

    def __init__(self):
        super().__init__()
        self.heads, self.pairs, self.head_dim = 4, 2, 8
        self.qkv, self.out, self.head = nn.Linear(3, 64), nn.Linear(32, 12), nn.Linear(12, 3)

    def forward(self, x):
        x = x.flatten(2).mT
        q, k = self.heads * self.head_dim, self.pairs * self.head_dim
        y = self.qkv(x)
        q, k, v = (
            t.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for t in (y[..., :q], y[..., q : q + k], y[..., q + k :])
        )
        k, v = (t.repeat_interleave(2, 1) for t in (k, v))
        z = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return self.head(self.out(z.reshape(*x.shape[:2], self.heads * self.head_dim)))


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.num_heads, self.scale = heads, (width // heads) ** -0.5
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        B, N, C = x.shape  # noqa: N806
        qkv = self.qkv(x).reshape(B, N, 3, self.num_heads, C // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        y = (q @ k.mT * self.scale).softmax(-1) @ v
        return self.proj(y.transpose(1, 2).reshape(B, N, C))


class DividedWidth(nn.Module):
    """The width of a head is that of the stream by their number, two numbers in a smaller model."""

    def __init__(self):
        super().__init__()
        self.into, self.out = nn.Linear(3, 32), nn.Linear(32, 5)
        self.blocks = nn.ModuleList(Attention(32, 4) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(32) for _ in range(2))

    def forward(self, x):
        x = self.into(x.flatten(2).mT)
        for norm, block in zip(self.norms, self.blocks, strict=True):
            x = x + block(norm(x))
        return self.out(x)


class Scan(nn.Module):
    """A state that begins with zeros of a literal size, carried from place to place."""

    def __init__(self):
        super().__init__()
        self.into, self.decay, self.out = (
            nn.Linear(3, 14),
            nn.Parameter(torch.rand(14)),
            nn.Linear(14, 2),
        )

    def forward(self, x):
        x = self.into(x.flatten(2).mT[:, :5])
        state = torch.zeros(x.shape[0], 14)
        for at in range(5):
            state = state * self.decay.sigmoid() + x[:, at]
        return self.out(state)


KINDS = [Listed, Named, Narrowed, Sliced, Configured, Said, FromTheEnd]
KINDS += [GroupedQueries, DividedWidth, Scan]


def halved(kind):
    """A model, its masked copy with half of the units of every group zeroed, and what that is."""
    torch.manual_seed(0)
    model = kind().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    graph = channel_graph(model, torch.randn(2, 3, 8, 8))
    gone = []
    for group in graph.removable:
        order = torch.randperm(len(group.units)).tolist()
        gone += [group.units[i].id for i in order[: len(order) // 2]]
    masked = copy.deepcopy(model)
    graph.zero_(masked, gone, consumers=False)
    return masked, graph, gone


@pytest.mark.parametrize("kind", KINDS)
def test_half_of_every_group_goes_and_the_rest_computes_the_same(kind):
    masked, graph, gone = halved(kind)
    small = compact(masked, torch.randn(2, 3, 8, 8), graph=graph)
    assert (small.removed, small.kept_back) == (len(gone), {})
    # No weight is left out of it: of every matrix, both axes that may are shorter.
    assert small.after.parameters < 0.52 * small.before.parameters
    for batch in (torch.randn(3, 3, 8, 8), torch.randn(2, 3, 6, 10)):
        proof = compare(masked, small.model, batch)
        assert proof.difference < 1e-5 * proof.scale


@pytest.mark.parametrize("kind", [Configured, FromTheEnd, DividedWidth])
def test_the_edits_are_read_back_by(kind, tmp_path):
    masked, graph, _ = halved(kind)
    x = torch.randn(2, 3, 8, 8)
    small = compact(masked, x, graph=graph)
    save(tmp_path / "it.espalier", small)
    again = load(tmp_path / "it.espalier", kind).eval()
    assert torch.equal(again(x), small.model(x))
    wide = expand(tmp_path / "it.espalier", kind).eval()
    assert torch.allclose(wide(x), masked(x), rtol=1e-4, atol=1e-5)


def test_an_object_that_several_modules_hold_is_changed_for_one_alone():
    masked, graph, _ = halved(Configured)
    small = compact(masked, torch.randn(2, 3, 8, 8), graph=graph).model
    assert masked.config.width_c == 24
    assert small.config.width_c == small.z.in_channels < 24


def test_a_size_that_two_places_need_differently_stays():
    class Both(Cut):
        def forward(self, x):
            x = self.norm(self.into(x)).relu()
            a, b, c = x.split([16, 8, 24], 1)
            y = (self.x(a) + self.y(b) + self.z(c)).mean((2, 3))
            return self.head(y), torch.ones(24)

    masked, graph, gone = halved(Both)
    small = compact(masked, torch.randn(2, 3, 8, 8), graph=graph)
    assert small.proof.holds
    assert 0 < small.removed < len(gone)
    assert any("holds sizes by itself" in reason or "else" in reason for reason in small.kept_back)
