"""One form of a batch for everything that calls a model."""

from types import MappingProxyType

import pytest
import torch
from torch import nn

from espalier._ground.example import arguments, call, moved, one_tensor
from espalier.compaction import compact
from espalier.errors import RequestError
from espalier.graph import channel_graph
from espalier.measure import layer_costs
from espalier.training._batchnorm import reestimate_


class Two(nn.Module):
    """Two inputs, which may be given by position or by name."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.norm, self.b = nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)

    def forward(self, x, scale):
        return self.b(self.norm(self.a(x * scale)).relu())


X, SCALE = torch.arange(6.0).view(2, 3), torch.full((2, 1), 2.0)
FORMS = [
    (X, SCALE),
    [X, SCALE],
    {"x": X, "scale": SCALE},
    MappingProxyType({"scale": SCALE, "x": X}),
]


@pytest.mark.parametrize("example", FORMS, ids=["tuple", "list", "dict", "mapping"])
def test_every_form_means_the_same_to_everything_that_calls_a_model(example):
    model = Two()
    expected = model.eval()(X, SCALE)
    assert torch.equal(call(model, example), expected)
    assert {n: c.macs for n, c in layer_costs(model, example).items()} == {
        "a.weight": 12,
        "b.weight": 8,
    }
    assert len(channel_graph(model, example).removable) == 1
    assert compact(model, example, [example]).proof.real_batches == 1
    reestimate_(model, [example])
    torch.testing.assert_close(model.norm.running_mean, model.a(X * SCALE).mean(0).detach())


def test_a_tensor_is_the_only_argument():
    assert arguments(X) == ((X,), {})


def test_what_is_moved_is_every_tensor_at_any_depth():
    there = moved({"x": X, "more": [SCALE, 3]}, torch.device("meta"))
    assert there["x"].is_meta
    assert there["more"][0].is_meta
    assert there["more"][1] == 3
    assert moved(MappingProxyType({"x": X}), torch.device("meta"))["x"].is_meta


def test_one_tensor_is_taken_out_and_anything_else_refused():
    assert one_tensor(X, "latency") is X
    assert one_tensor([X], "latency") is X
    with pytest.raises(
        RequestError, match=r"latency takes models of one input tensor.* 2 arguments"
    ):
        one_tensor((X, SCALE), "latency")
    with pytest.raises(RequestError, match="the keyword arguments x, scale"):
        one_tensor({"x": X, "scale": SCALE}, "latency")
