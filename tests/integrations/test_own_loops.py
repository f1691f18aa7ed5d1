"""Accelerate and Fabric wrap models and optimisers: a handle attaches to what is inside, and goes on after a kill."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import espalier as esp
from espalier import data
from killing import kill_me, killed

STEPS, BATCH = 20, 16


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 10))


@pytest.fixture(scope="module")
def digits():
    pytest.importorskip("sklearn")
    train = data.load("digits").train
    return train.normalise(train.images).split(BATCH), train.labels.split(BATCH)


def pruning_of(model, optimizer):
    return esp.Pruning(model, esp.plan(model, density=0.1), esp.SLR(), optimizer, STEPS, cadence=2)


def explicit(digits, parts):
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    pruning = pruning_of(model, optimizer)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = 0.0
        for x, y in zip(digits[0][step].chunk(parts), digits[1][step].chunk(parts), strict=True):
            part = cross_entropy(model(x), y)
            (part / parts).backward()
            loss = loss + part.detach() / parts
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        pruning.add_gradients_()
        optimizer.step()
        pruning.step(loss)
    return model


class WithAccelerate:
    """The loop of Accelerate's, half a batch at a time."""

    parts_of_a_batch = 2

    def __init__(self):
        library = pytest.importorskip("accelerate")
        self.trainer = library.Accelerator(cpu=True, gradient_accumulation_steps=2)
        model = network()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        self.model, self.optimizer = self.trainer.prepare(model, optimizer)
        self.pruning = pruning_of(self.model, self.optimizer)
        self.trainer.register_for_checkpointing(self.pruning)

    def save(self, folder):
        self.trainer.save_state(str(folder))

    def load(self, folder):
        self.trainer.load_state(str(folder))

    def step(self, x, y):
        loss = 0.0
        for half in (slice(None, BATCH // 2), slice(BATCH // 2, None)):
            with self.trainer.accumulate(self.model):
                part = cross_entropy(self.model(x[half]), y[half])
                loss = loss + part.detach() / 2
                self.told = loss
                self.trainer.backward(part)
                if self.trainer.sync_gradients:
                    self.trainer.clip_grad_norm_(self.model.parameters(), 0.5)
                self.optimizer.step()
                self.optimizer.zero_grad()


class WithFabric:
    """The loop of Fabric's."""

    parts_of_a_batch = 1

    def __init__(self):
        library = pytest.importorskip("lightning.fabric")
        self.trainer = library.Fabric(accelerator="cpu", devices=1)
        model = network()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        self.model, self.optimizer = self.trainer.setup(model, optimizer)
        self.pruning = pruning_of(self.model, self.optimizer)

    def parts(self):
        return {"model": self.model, "optimizer": self.optimizer, "pruning": self.pruning}

    def save(self, folder):
        self.trainer.save(folder / "state.ckpt", self.parts())

    def load(self, folder):
        self.trainer.load(folder / "state.ckpt", self.parts())

    def step(self, x, y):
        self.optimizer.zero_grad()
        loss = cross_entropy(self.model(x), y)
        self.told = loss.detach()
        self.trainer.backward(loss)
        self.trainer.clip_gradients(self.model, self.optimizer, max_norm=0.5)
        self.optimizer.step()


def trained(kind, digits, folder, *, dies=None, resume=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loop = kind()
        if resume is not None:
            loop.load(folder)
        with loop.pruning.attached(loop.optimizer, loss=lambda: loop.told):
            for step in range(resume or 0, STEPS):
                loop.step(digits[0][step], digits[1][step])
                if step + 1 in (6, 14):
                    loop.save(folder)
                if step + 1 == dies:
                    kill_me()
    return loop


def weights(model):
    return [p.detach() for p in model.parameters()]


@pytest.mark.parametrize("kind", [WithAccelerate, WithFabric])
def test_the_weights_are_those_of_the_explicit_calls(vision, kind, digits, tmp_path):
    loop, by_hand = trained(kind, digits, tmp_path), explicit(digits, kind.parts_of_a_batch)
    for one, other in zip(weights(loop.model), weights(by_hand), strict=True):
        assert torch.equal(one, other)
    assert loop.pruning.nothing_to_cut()
    assert loop.pruning.certificate().steps == STEPS


@pytest.mark.parametrize("kind", [WithAccelerate, WithFabric])
@pytest.mark.parametrize(("dies", "saved"), [(8, 6), (16, 14)])
def test_a_loop_that_was_killed_goes_on_to_the_same_weights(
    vision, kind, digits, tmp_path, dies, saved
):
    whole = trained(kind, digits, tmp_path)
    killed(lambda: trained(kind, digits, tmp_path, dies=dies))
    again = trained(kind, digits, tmp_path, resume=saved)
    assert all(map(torch.equal, weights(whole.model), weights(again.model)))
    assert whole.pruning.updates == again.pruning.updates
