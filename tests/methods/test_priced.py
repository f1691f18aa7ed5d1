"""What handles with a price keep: the evidence under way, and that the cut is made."""

import pytest
import torch
from torch import nn

import espalier as esp
from espalier.methods import SSL, Setting, Slimming
from espalier.sets import Filters

METHODS = {"ssl": SSL(filters=0.02, proximal=False), "slimming": Slimming(l1=0.01)}


def sgd(groups):
    return torch.optim.SGD(groups, lr=0.05)


def attached(method):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(24, 1)
    )
    plan = esp.plan(model, set=Filters(), density=0.5, example_input=torch.zeros(2, 1, 4, 4))
    return model, method.attach(model, plan, Setting(optimizer=sgd, lr=0.05, steps=100))


def step(model, handle, x):
    handle.optimizer.zero_grad()
    loss = model(x).square().mean()
    loss.backward()
    handle.add_gradients_()
    handle.optimizer.step()
    handle.step(loss)


def batches(count):
    return torch.randn(count, 8, 1, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", METHODS)
def test_evidence_that_a_resume_falls_into_is_that_of_the_whole_run(name):
    """The record of step 50 has the mean loss of all fifty, though the handle is another one from step 30 on."""
    x = batches(50)
    model, handle = attached(METHODS[name])
    for one in x[:30]:
        step(model, handle, one)
    again, second = attached(METHODS[name])
    again.load_state_dict(model.state_dict())
    second.load_state_dict(handle.state_dict())
    for one in x[30:]:
        step(model, handle, one)
        step(again, second, one)
    assert len(handle.updates) == 1
    assert [u.event() for u in second.updates] == [u.event() for u in handle.updates]


@pytest.mark.parametrize("name", METHODS)
def test_after_the_cut_there_is_no_price_and_nothing_more_goes(name):
    model, handle = attached(METHODS[name])
    x = batches(50)
    step(model, handle, x[0])
    handle.hard_prune_()
    assert handle.target().values == {}
    _, second = attached(METHODS[name])
    second.load_state_dict(handle.state_dict())
    assert second.target().values == {}
    model.zero_grad()
    model(x[1]).square().mean().backward()
    before = [p.grad.clone() for p in model.parameters()]
    handle.add_gradients_()
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), before, strict=True))
