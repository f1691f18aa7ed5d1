"""One training step: what acts on the weights, in the one order in which it has to."""

from contextlib import contextmanager

import pytest
import torch
from torch import nn

from espalier.methods import Cut, Handle
from espalier.training import train_step
from training.problem import Points, network, plan_for


class Recording(Handle):
    """Says when it is asked, and what the gradients are then."""

    def __init__(self, model, optimizer, said):
        super().__init__(model, plan_for(model), optimizer)
        self.said, self.seen = said, {}

    def trained(self):
        self.said.append("trained")
        return self.model

    def add_gradients_(self):
        self.said.append("add_gradients_")
        self.seen["norm"] = norm_of(self.model)
        for parameter in self.model.parameters():
            parameter.grad.add_(10.0)

    def step(self, loss):
        self.said.append("step")
        assert not loss.requires_grad
        self.seen["loss"] = loss

    def target(self):
        return Cut(values={}, free={})


class Spy(torch.optim.SGD):
    def __init__(self, parameters, said):
        super().__init__(parameters, lr=0.01)
        self.said, self.norm = said, None

    def zero_grad(self, set_to_none=True):
        self.said.append("zero_grad")
        super().zero_grad(set_to_none)

    def step(self, closure=None):
        self.said.append("optimizer.step")
        grads = [p.grad for group in self.param_groups for p in group["params"]]
        self.norm = float(nn.utils.get_total_norm(grads))
        super().step(closure)


def norm_of(model):
    return float(nn.utils.get_total_norm([p.grad for p in model.parameters()]))


def parts():
    said = []
    model = network(dropout=0.0)
    optimizer = Spy(model.parameters(), said)
    task = Points()
    return model, task, next(iter(task.batches(0))), optimizer, Recording(model, optimizer, said)


def test_the_order_is_loss_check_clip_pull_step_hold():
    model, task, batch, optimizer, handle = parts()

    @contextmanager
    def cast():
        handle.said.append("loss")
        yield

    loss = train_step(
        model, task, batch, optimizer, handle, cast=cast(), check=lambda _: handle.said.append("check")
    )  # fmt: skip
    order = ["trained", "zero_grad", "loss", "check", "add_gradients_", "optimizer.step", "step"]
    assert handle.said == order
    assert handle.seen["loss"] is loss


def test_the_pull_is_added_after_clipping_and_not_clipped_with_it():
    model, task, batch, optimizer, handle = parts()
    train_step(model, task, batch, optimizer, handle, clip=1e-3)
    assert handle.seen["norm"] == pytest.approx(1e-3, rel=1e-3)
    assert optimizer.norm > 10.0


def test_gradients_of_the_step_before_are_gone():
    model, task, batch, optimizer, _ = parts()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 1e6)
    train_step(model, task, batch, optimizer)
    assert optimizer.norm < 100.0


def test_a_check_that_raises_leaves_the_weights_as_they_were():
    model, task, batch, optimizer, handle = parts()
    before = [p.detach().clone() for p in model.parameters()]

    def refuse(loss):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train_step(model, task, batch, optimizer, handle, check=refuse)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert "step" not in handle.said


def test_what_is_trained_is_asked_anew_and_put_in_train_mode():
    model, task, batch, optimizer, handle = parts()
    model.eval()
    wrapper = nn.Sequential(model)
    wrapper.training = False
    handle.trained = lambda: wrapper
    train_step(model, task, batch, optimizer, handle)
    assert wrapper.training
    assert model.training
