"""What can be checked is checked on one batch before anything is trained, and nothing shows of it."""

import random
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import espalier as esp
from espalier.errors import RequestError, UnknownNameError
from espalier.runs import Planned, Quantise, SearchBits, standard_stages
from espalier.runs._rehearsal import rehearse
from espalier.training import Training
from training.problem import Points, network, plan_for, prune_run, weights_of

ONE = Training(epochs=1)
SLR = esp.Constrained(solver=esp.SLR(), cadence=3)


def stages(method=SLR, prune=ONE, quantise=None, first=None, **given):
    planned = Planned(plan_for, first=first or plan_for(network()))
    return standard_stages(planned, method, prune=prune, pretrain=ONE, quantise=quantise, **given)


def refused(tmp_path, model=None, task=None, list_of=None, error=RequestError):
    """The message; the folder is not even made, and no step was taken."""
    model = model or network()
    before = weights_of(model)
    with pytest.raises(error) as caught:
        esp.runs.run_stages(model, task or Points(), list_of or stages(), tmp_path / "run")
    assert weights_of(model) == before
    assert not (tmp_path / "run").exists()
    return str(caught.value)


class Losing(Points):
    def __init__(self, wrong):
        super().__init__()
        self.wrong = wrong

    def loss(self, model, batch):
        return self.wrong(model(batch[0]), batch[1])


CROSS = nn.functional.cross_entropy


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside = network()

    def forward(self, x):
        return self.inside(x), x


@pytest.mark.parametrize(
    ("wrong", "words"),
    [(lambda out, y: CROSS(out, y, reduction="none"), r"has shape \(8,\); return a scalar"),
     (lambda out, y: CROSS(out, y).item(), "has float; return a scalar"),
     (lambda out, y: CROSS(out, y).detach(), "has no gradient"),
     (lambda out, y: CROSS(out, y + 2), r"Target \d is out of bounds"),
     (lambda out, y: CROSS(out[:5], y), r"batch_size .* \(at .*test_rehearsal\.py, line \d+, in <lambda>\)")],
)  # fmt: skip
def test_a_loss_that_training_cannot_take_is_refused(tmp_path, wrong, words):
    with pytest.raises(RequestError, match=words):
        rehearse(network(), Losing(wrong), stages())
    refused(tmp_path, task=Losing(wrong))


@pytest.mark.parametrize(
    ("model", "words"),
    [(lambda: nn.Sequential(nn.Linear(5, 2)), "mat1 and mat2 shapes cannot be multiplied"),
     (Pair, "TypeError: .*tuple"),
     (lambda: nn.Sequential(nn.Linear(6, 1)), r"Target 1 is out of bounds")],
)  # fmt: skip
def test_a_model_that_does_not_fit_loss_and_data_is_refused(tmp_path, model, words):
    said = refused(
        tmp_path, model=model(), list_of=standard_stages(Planned(plan_for), SLR, prune=ONE)
    )
    assert re.search(words, said), said
    assert "nothing was trained" in said


def test_a_test_batch_of_another_size_is_refused(tmp_path):
    task = Points()
    task.inputs = lambda part="train", limit=None: iter(
        [task.x if part == "train" else task.x[:, :4]]
    )
    assert "the first test batch does not go through the model" in refused(tmp_path, task=task)


@pytest.mark.parametrize(
    "optimizer", ["sgd", SimpleNamespace(over=lambda p, lr: torch.optim.SGD(p, lr))]
)
def test_a_metric_that_the_optimiser_cannot_give_is_refused(tmp_path, optimizer):
    """With momentum it would have been refused in the middle of pruning; without, it silently was the plain norm."""
    method = esp.Constrained(solver=esp.SLR(), metric=esp.metrics.AdamMoment())
    training = Training(epochs=1, optimizer=optimizer)
    said = refused(tmp_path, list_of=stages(method, prune=training))
    assert said.startswith("stage 'prune': the metric AdamMoment")
    assert "SGD; choose" in said
    rehearse(network(), Points(), stages(method))


@pytest.mark.parametrize(
    "metric", [esp.metrics.Fisher(), esp.metrics.Activations(), esp.metrics.Identity()]
)
def test_other_metrics_go_with_any_optimiser(metric):
    method = esp.Constrained(solver=esp.SLR(), metric=metric)
    rehearse(network(), Points(), stages(method, prune=Training(epochs=1, optimizer="sgd")))


def quantising(bits):
    return Quantise(bits=bits, method=esp.Constrained(solver=esp.ADMM(), settle=None), training=ONE)


@pytest.mark.parametrize("bits", [{"nobody": 2}, {"0.weight": 2, "4.wieght": 2}])
def test_names_in_quantise_are_looked_up(tmp_path, bits):
    said = refused(tmp_path, list_of=stages(quantise=quantising(bits)), error=UnknownNameError)
    assert said.startswith("stage 'quantise': ")
    rehearse(network(), Points(), stages(quantise=quantising(SearchBits())))


@pytest.mark.parametrize("device", ["cpu"])
def test_nothing_shows_of_it(device):
    class Drawing(Points):
        def loss(self, model, batch):
            random.random(), np.random.rand(), torch.rand(1)
            return super().loss(model, batch)

    model = network().to(device)
    model[3].eval()
    before = weights_of(model), [m.training for m in model.modules()]
    streams = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    rehearse(model, Drawing(), stages(quantise=quantising(2)))
    assert (weights_of(model), [m.training for m in model.modules()]) == before
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert random.getstate() == streams[0]
    assert np.random.get_state()[1].tolist() == streams[1]
    assert torch.equal(torch.get_rng_state(), streams[2])


def test_a_run_ends_with_the_same_bytes_with_and_without_it(tmp_path, monkeypatch):
    def ended(name):
        torch.manual_seed(0)
        done = prune_run(
            network(), Points(), plan_for, SLR, folder=tmp_path / name, prune=ONE, retrain=ONE,
            quantise=quantising(2),
        )  # fmt: skip
        return weights_of(done.model)

    with_it = ended("with")
    monkeypatch.setattr("espalier.runs._running.rehearse", lambda *_: None)
    assert with_it == ended("without")
