"""Heads of PyTorch's own attention, and the stream it reads."""

import copy

import pytest
import torch
from torch import nn

from espalier.compaction import SliceEdit, compact
from espalier.compaction._heads import NarrowAttention, narrow_
from espalier.errors import RequestError
from espalier.graph import channel_graph


class Reader(nn.Module):
    """Attention between linear maps, as it can be called."""

    def __init__(self, *, first=True, weights=False, mask=False, memory=None, bias=True):
        super().__init__()
        self.first, self.weights, self.mask = first, weights, mask
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)
        self.memory = None if memory is None else nn.Linear(5, memory)
        self.attention = nn.MultiheadAttention(
            8, 4, batch_first=first, kdim=memory, vdim=memory, bias=bias
        )

    def forward(self, x):
        query = self.a(x)
        key = query if self.memory is None else self.memory(x)
        size = x.shape[1 if self.first else 0]
        mask = torch.ones(size, size, dtype=torch.bool).triu(1) if self.mask else None
        y, weights = self.attention(
            query, key, key, attn_mask=mask, need_weights=self.weights, average_attn_weights=False
        )
        return self.b(y) if weights is None else (self.b(y), weights.sum(1))


KINDS = {
    "of itself": {},
    "batch second": {"first": False},
    "with a mask": {"mask": True},
    "of something else": {"memory": 6},
    "without biases": {"bias": False},
}


def halved(net, x):
    graph = channel_graph(net, x)
    gone = [u.id for g in graph.removable for u in g.units[1::2]]
    graph.zero_(net, gone)
    return compact(net, x, graph=graph), len(gone)


@pytest.mark.parametrize("kind", KINDS)
def test_attention_without_its_dead_heads_is_the_same_function(kind):
    torch.manual_seed(0)
    net, x = Reader(**KINDS[kind]).double(), torch.randn(2, 6, 5).double()
    for bias in (net.attention.in_proj_bias, net.attention.out_proj.bias):
        if bias is not None:
            nn.init.normal_(bias)
    small, gone = halved(net, x)
    assert small.removed == gone
    attention = small.model.attention
    assert (attention.num_heads, attention.head_dim, attention.embed_dim) == (2, 2, 4)
    for batch in (x, torch.randn(3, 4, 5).double()):
        torch.testing.assert_close(small.model(batch), net(batch), rtol=1e-12, atol=1e-12)


def test_a_narrow_attention_gives_what_pytorchs_gives_in_every_way_it_is_called():
    torch.manual_seed(0)
    plain = nn.MultiheadAttention(8, 4, batch_first=True).double().eval()
    nn.init.normal_(plain.in_proj_bias)
    narrow = copy.deepcopy(plain)
    narrow_(narrow, {})
    assert type(narrow) is NarrowAttention
    x, y = torch.randn(2, 5, 8).double(), torch.randn(2, 7, 8).double()
    padding = torch.tensor([[False] * 6 + [True], [False] * 4 + [True] * 3])
    calls = [
        ((x, y, y), {}),
        ((x, y, y), {"key_padding_mask": padding}),
        ((x, y, y), {"average_attn_weights": False, "attn_mask": torch.randn(5, 7).double()}),
        ((x, y, y), {"need_weights": False, "attn_mask": torch.randn(8, 5, 7).double()}),
        ((x[0], y[0], y[0]), {}),
    ]
    for inputs, named in calls:
        for mine, theirs in zip(narrow(*inputs, **named), plain(*inputs, **named), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


def test_an_encoder_of_pytorch_loses_heads_and_its_stream():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 4, 12, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    net = nn.Sequential(nn.Linear(3, 8), encoder, nn.Linear(8, 2)).eval()
    x = torch.randn(2, 5, 3)
    small, gone = halved(net, x)
    assert small.removed == gone
    assert small.model[1].layers[0].self_attn.in_proj_weight.shape == (12, 4)
    with torch.no_grad():  # as in evaluation, where PyTorch would take its fused kernel
        torch.testing.assert_close(small.model(x), net(x), rtol=1e-4, atol=1e-6)


def test_heads_are_not_cut_within():
    attention = nn.MultiheadAttention(8, 4)
    rows = SliceEdit(name="in_proj_weight", axis=0, size=24, keep=(0, 8, 16))
    with pytest.raises(RequestError, match="go whole"):
        narrow_(attention, {"in_proj_weight": {0: rows}})
    with pytest.raises(RequestError, match="plain"):
        narrow_(nn.MultiheadAttention(8, 4, add_bias_kv=True), {})
