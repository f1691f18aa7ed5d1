"""A metric measured at once is the one that a gauge would have seen."""

import pytest
import torch
from torch import nn

from espalier.errors import NonFiniteError, RequestError
from espalier.metrics import Activations, AdamMoment, Fisher, Identity, diagonal


def _net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


def test_fisher_is_the_running_mean_of_squared_gradients_and_the_model_is_as_it_was():
    net, draw = _net().eval(), torch.Generator().manual_seed(0)
    batches = [torch.randn(5, 3, generator=draw) for _ in range(3)]
    before = {n: t.clone() for n, t in net.state_dict().items()}
    found = diagonal(Fisher(beta=0.5), net, [lambda m, x=x: m(x).square().mean() for x in batches])
    twin, expected = _net().train(), None
    for x in batches:
        grads = torch.autograd.grad(twin(x).square().mean(), list(twin.parameters()))
        square = [g.square() for g in grads]
        expected = (
            square
            if expected is None
            else [a.lerp(b, 0.5) for a, b in zip(expected, square, strict=True)]
        )
    for (name, h), by_hand in zip(found.items(), expected, strict=True):
        assert torch.equal(h, by_hand), name
    assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())
    assert not net.training
    assert all(p.grad is None for p in net.parameters())


def test_activations_are_those_of_layers_and_the_plain_norm_is_empty():
    x = torch.tensor([[1.0, 2.0, 3.0]]).repeat(4, 1)
    found = diagonal(Activations(), _net(), [lambda m: m(x).sum()])
    assert set(found) == {"0.weight", "3.weight"}
    assert torch.equal(found["0.weight"], torch.tensor([1.0, 4.0, 9.0]).expand(4, 3))
    assert diagonal(Identity(), _net(), [lambda m: m(x).sum()]) == {}


def test_what_cannot_be_measured_is_refused():
    x = torch.ones(4, 3)
    with pytest.raises(RequestError, match="AdamMoment"):
        diagonal(AdamMoment(), _net(), [lambda m: m(x).sum()])
    with pytest.raises(RequestError, match="no losses"):
        diagonal(Fisher(), _net(), [])
    with pytest.raises(NonFiniteError, match="batch 0"):
        diagonal(Fisher(), _net(), [lambda m: m(x).sum() * float("nan")])
