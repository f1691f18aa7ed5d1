"""Convolutions that standardise their weights: filters and inputs go, and the statistics stay what they were."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from espalier import plan
from espalier.artifact import expand, load, save
from espalier.compaction import compact, compare
from espalier.graph import channel_graph
from espalier.measure import layer_costs
from espalier.sets import Filters


class ByBatchNorm(nn.Conv2d):
    """As timm's: the rows of the weight normalised by a batch norm in training."""

    def forward(self, x):
        rows = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(rows, None, None, training=True, momentum=0.0, eps=1e-6)
        return F.conv2d(x, weight.reshape_as(self.weight), self.bias, self.stride, self.padding)


class ByMoments(nn.Conv2d):
    """In words of its own, with the unbiased variance and a gain."""

    def forward(self, x):
        weight = self.weight
        mean, var = weight.mean((1, 2, 3), keepdim=True), weight.var((1, 2, 3), keepdim=True)
        weight = (weight - mean) / (var * 27 + 1e-4).sqrt()
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class Unlike(nn.Conv2d):
    """Its first input channel weighs twice in the mean."""

    def forward(self, x):
        weight = self.weight - self.weight.mean(1, keepdim=True) - self.weight[:, :1]
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


def made(kind):
    torch.manual_seed(0)
    parts = [kind(3, 12, 3, padding=1), nn.ReLU(), kind(12, 15, 3, padding=1), nn.ReLU()]
    net = nn.Sequential(*parts, kind(15, 6, 1), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 64, 4))
    for parameter in net.parameters():
        nn.init.normal_(parameter, 0.1, 0.3)  # a mean that counts
    return net.eval()


def halved(kind, consumers):
    net = made(kind)
    x = torch.randn(2, 3, 8, 8)
    graph = channel_graph(net, x)
    gone = [u.id for g in graph.removable for u in g.units[::2]]
    graph.zero_(net, gone, consumers=consumers)
    return net, x, graph, gone


@pytest.mark.parametrize("consumers", [False, True])
@pytest.mark.parametrize("kind", [ByBatchNorm, ByMoments])
def test_inputs_go_whatever_their_weights_are_and_are_counted_on(kind, consumers):
    net, x, graph, gone = halved(kind, consumers)
    assert len(gone) == 6 + 8 + 3
    small = compact(net, x, graph=graph)
    assert (small.removed, small.kept_back) == (len(gone), {})
    assert [small.model[i]._parameters["weight"].shape[:2] for i in (0, 2, 4)] == [
        (6, 3),
        (7, 6),
        (3, 7),
    ]
    for batch in (x, torch.randn(3, 3, 8, 8)):
        proof = compare(net, small.model, batch)
        assert proof.difference < 1e-5 * proof.scale
    if not consumers:  # what stands for the weights that went is not nothing
        forgetful = copy.deepcopy(small.model)
        forgetful[2].gone.zero_()
        assert not compare(net, forgetful, x).holds


def test_a_convolution_that_tells_its_inputs_apart_keeps_them():
    graph = channel_graph(made(Unlike), torch.randn(2, 3, 8, 8))
    assert not graph.may_go("2.weight", 1).any()
    assert not graph.may_go("0.weight", 0).any()
    assert graph.may_go("4.weight", 0).all()


def test_the_plan_promises_what_the_compact_model_has():
    net, x = made(ByBatchNorm), torch.randn(2, 3, 8, 8)
    one = plan(net, macs=0.5, set=Filters(), example_input=x)
    named = dict(net.named_parameters())
    with torch.no_grad():
        for name, value in one.project({n: p.detach() for n, p in named.items()}).items():
            named[name].copy_(value)
    assert layer_costs(compact(net, x).model, x).total == one.macs_left


def test_it_is_stored_expanded_copied_exported_and_trained(tmp_path):
    net, x, graph, _ = halved(ByBatchNorm, consumers=False)
    small = compact(net, x, graph=graph)
    out = small.model(x)
    save(tmp_path / "it.espalier", small)
    assert torch.equal(load(tmp_path / "it.espalier", lambda: made(ByBatchNorm)).eval()(x), out)
    wide = expand(tmp_path / "it.espalier", lambda: made(ByBatchNorm)).eval()
    assert torch.allclose(wide(x), net(x), rtol=1e-4, atol=1e-5)
    assert torch.equal(copy.deepcopy(small.model)(x), out)
    program = torch.export.export(small.model, (x,)).module()
    assert torch.allclose(program(x), out, atol=1e-6)
    small.model.train()(x).sum().backward()
    assert small.model[2]._parameters["weight"].grad.abs().sum() > 0
