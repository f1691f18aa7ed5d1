"""A run that quantises at the end: on its levels, honest figures, and resumed wherever it stopped."""

import pytest
import torch

import espalier as esp
from espalier.methods import GradualFreezing
from espalier.models import load_weights
from espalier.runs import Freeze, Quantise, SearchBits, read_run
from espalier.sets import Levels
from espalier.training import Training
from training.problem import REHEARSE, Points, network, plan_for, prune_run, timeless, weights_of


class StopHereError(Exception):
    pass


class Stopping(Points):
    """Stops when the loss is asked for the n-th time, which may be in any phase."""

    def __init__(self, at):
        super().__init__()
        self.left = at

    def loss(self, model, batch):
        self.left -= 1
        if self.left < 0:
            raise StopHereError
        return super().loss(model, batch)


def run(folder, task=None, resume=False, bits=2, freeze=True, **changes):
    torch.manual_seed(0)
    gradual = Freeze(
        training=Training(epochs=2, lr=0.01, optimizer="sgd"), method=GradualFreezing(rounds=4)
    )
    phases = {
        "prune": Training(epochs=2, lr=0.01),
        "retrain": Training(epochs=1, lr=0.01),
        "quantise": Quantise(
            bits=bits,
            method=esp.Constrained(solver=esp.SLR(), cadence=3, settle=None),
            training=Training(epochs=2, lr=0.01),
            freeze=gradual if freeze else None,
        ),
    }
    return prune_run(
        network(), task or Points(), plan_for, esp.Constrained(solver=esp.SLR(), cadence=5, settle=None),
        folder=folder, resume=resume, checkpoint_every=5, **{**phases, **changes},
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(tmp_path_factory.mktemp("whole") / "run")


def test_the_weights_are_on_the_plan_and_on_levels_and_the_figures_are_theirs(whole):
    named = dict(whole.model.named_parameters())
    assert whole.plan.contains(named)
    found = whole.result.quantisation
    assert found.bits == dict.fromkeys(whole.plan.names, 2)
    for name in whole.plan.names:
        k, q = Levels(2).codes(named[name])
        assert found.steps[name] == q
        assert torch.equal(k * torch.tensor(q), named[name])
    survivors = sum(int(named[name].count_nonzero()) for name in whole.plan.names)
    assert found.data_bits == 2 * survivors
    assert whole.result.quantised_bn == Points().evaluate(whole.model)
    assert whole.result.epochs == {"prune": 2, "retrain": 1, "quantise": 2, "freeze": 2}
    phases = [e["phase"] for e in read_run(whole.path).events if e["event"] == "phase"]
    assert phases == ["prune", "retrain", "quantise", "freeze"]


def test_quantising_prunes_nothing_and_revives_nothing(whole):
    before = network()
    load_weights(before, whole.path / "pruned.safetensors")
    for name in whole.plan.names:
        now, then = (m.get_parameter(name) != 0 for m in (whole.model, before))
        assert torch.equal(now, then)


@pytest.mark.parametrize("at", [3, 17, 22, 25, 33, 39, 41, 47, 55])
def test_stopped_anywhere_and_resumed_it_ends_with_the_same_bytes(tmp_path, monkeypatch, whole, at):
    """Steps 0-15 prune, 16-23 retrain, 24-39 follow the solver, 40-55 freeze."""
    monkeypatch.setattr(REHEARSE, lambda *_: None)  # it asks for losses too
    with pytest.raises(StopHereError):
        run(tmp_path / "run", task=Stopping(at))
    done = run(tmp_path / "run", resume=True)
    assert weights_of(done.model) == weights_of(whole.model)
    assert timeless(done.result) == timeless(whole.result)


def test_without_freezing_and_without_epochs_it_projects_what_is_there(tmp_path):
    done = run(
        tmp_path / "run",
        quantise=Quantise(
            bits={"0.weight": 3},
            method=esp.Constrained(solver=esp.OneShot()),
            training=Training(epochs=0),
        ),
    )
    before = network()
    load_weights(before, done.path / "pruned.safetensors")
    expected = Levels(3).project(before.get_parameter("0.weight"))
    assert torch.equal(done.model.get_parameter("0.weight"), expected)
    assert torch.equal(done.model.get_parameter("4.weight"), before.get_parameter("4.weight"))


def test_searched_bits_are_found_once_and_what_was_tried_is_kept(tmp_path, monkeypatch):
    search = SearchBits(guard=0.05, high=4)
    done = run(tmp_path / "a", bits=search, freeze=False)
    found = done.result.quantisation
    assert found.search["met"]
    assert found.search["bits"] == found.bits
    assert set(found.bits.values()) <= {1, 2, 3, 4}
    with pytest.raises(StopHereError):
        run(tmp_path / "b", bits=search, freeze=False, task=Stopping(33))
    monkeypatch.setattr("espalier.runs._aims.search_bits", None)  # it would be called
    again = run(tmp_path / "b", bits=search, freeze=False, resume=True)
    assert timeless(again.result) == timeless(done.result)
    assert weights_of(again.model) == weights_of(done.model)


def test_a_run_that_does_not_quantise_says_nothing_of_it(tmp_path):
    result = run(tmp_path / "run", quantise=None).result
    assert (result.quantised, result.quantised_bn, result.quantisation) == (None, None, None)
