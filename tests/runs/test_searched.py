"""A plan that is searched for in a run: from the weights of its start, kept, and resumed to the byte."""

import json

import pytest
import torch
from safetensors.torch import load_file

import espalier as esp
from espalier.errors import CheckpointError
from espalier.planning import Plan
from espalier.runs import RunOptions, Searched, run_stages, standard_stages, worth_of
from espalier.search import AMC, Random, Sensitivity, Sought, Trying
from espalier.training import Training
from training.problem import Points, network, stopped_at, timeless, weights_of

CHOICES = [
    AMC(episodes=9, warmup=4, hidden=8), Random(evaluations=9), Sensitivity(points=4),
]  # fmt: skip


def aim(choice, task, seen=None):
    def made(model, known, note):
        inner = worth_of(model, task)

        def worth(masks):
            if seen is not None:
                seen.append({n: p.detach().clone() for n, p in model.named_parameters()})
            return inner(masks)

        sought = Sought(choice.steps, Trying(worth=worth, known=known, note=note))
        return esp.plan(model, density=0.25, allocation=sought)

    return Searched(made, settings={"density": 0.25})


def run(folder, choice, resume=False, seen=None):
    torch.manual_seed(0)
    model, task = network(), Points()
    stages = standard_stages(
        aim(choice, task, seen), esp.Constrained(solver=esp.SLR(), cadence=3, settle=None),
        prune=Training(epochs=2, lr=0.01), pretrain=Training(epochs=2, lr=0.01),
    )  # fmt: skip
    return run_stages(
        model, task, stages, folder, resume=resume, options=RunOptions(checkpoint_every=5)
    )


@pytest.mark.parametrize("choice", CHOICES, ids=lambda c: c.name)
def test_it_searches_the_pretrained_weights_and_keeps_plan_and_trials(tmp_path, choice):
    seen = []
    done = run(tmp_path / "run", choice, seen=seen)
    before = load_file(tmp_path / "run/before.safetensors")
    assert all(torch.equal(w, before[n]) for one in seen for n, w in one.items())
    trials = json.loads((tmp_path / "run/search.json").read_text())["trials"]
    assert len(trials) == len(seen)
    plan = Plan.load(tmp_path / "run/plan.yaml")
    assert sum(e.keep for e in plan.entries.values()) == round(0.25 * 128)
    assert plan.contains({n: p.detach() for n, p in done.model.named_parameters()})


@pytest.mark.parametrize("choice", CHOICES, ids=lambda c: c.name)
@pytest.mark.parametrize("count", [1, 6])
def test_killed_within_its_search_a_run_ends_with_the_same_bytes(
    tmp_path, monkeypatch, choice, count
):
    whole = run(tmp_path / "whole", choice)
    with stopped_at(monkeypatch, "espalier.runs._searching.negative_error", count):
        run(tmp_path / "half", choice)
    assert not (tmp_path / "half/plan.yaml").exists()
    seen = []
    again = run(tmp_path / "half", choice, resume=True, seen=seen)
    trials = json.loads((tmp_path / "half/search.json").read_text())["trials"]
    assert len(seen) == len(trials) - (count - 1)  # none is tried twice
    assert (tmp_path / "half/search.json").read_bytes() == (
        tmp_path / "whole/search.json"
    ).read_bytes()
    assert weights_of(again.model) == weights_of(whole.model)
    assert timeless(again.result) == timeless(whole.result)


def test_a_candidate_is_judged_by_training_data_and_the_model_is_left_as_it_was():
    class Spared(Points):
        def evaluate(self, model):
            raise AssertionError("the test set was looked at")

        def guard(self, limit=None):
            assert limit is not None
            return lambda model: float((model[0].weight == 0).double().mean())

    model = network()
    before = weights_of(model)
    mask = torch.arange(96).reshape(16, 6) < 24
    assert worth_of(model, Spared())({"0.weight": mask}) == -0.25
    assert weights_of(model) == before


def test_a_damaged_record_of_trials_is_refused(tmp_path, monkeypatch):
    with stopped_at(monkeypatch, "espalier.runs._searching.negative_error", 4):
        run(tmp_path / "half", CHOICES[1])
    (tmp_path / "half/search.json").write_text('{"trials": [7]}')
    with pytest.raises(CheckpointError, match="holds no trials"):
        run(tmp_path / "half", CHOICES[1], resume=True)
