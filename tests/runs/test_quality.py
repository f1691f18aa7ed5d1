"""Pruning by quality thresholds: what a scan finds, what a round cuts, and the dropout that follows."""

import math

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from espalier._ground.files import read_mapping
from espalier.runs import QualityThreshold
from espalier.runs._quality import above, adjusted, scan, spread_of
from espalier.training import Training
from training.problem import Points, network, plan_for, prune_run, stopped_at, timeless, weights_of

TRAINING = Training(epochs=2, lr=0.01)


def run(folder, model=None, begun=None, **settings):
    torch.manual_seed(0)
    model = model or network()
    more = {k: settings.pop(k) for k in ("resume", "retrain") if k in settings}

    def look(event):
        if event["event"] == "phase" and begun is not None:
            begun[event["phase"]] = {n: p.detach().clone() for n, p in model.named_parameters()}

    return prune_run(
        model, Points(), plan_for, QualityThreshold(**{"rounds": 3, "drop": 0.05, **settings}),
        folder=folder, pretrain=Training(epochs=4, lr=0.01), prune=TRAINING, checkpoint_every=5,
        on_event=look, **more,
    )  # fmt: skip


def test_the_spread_is_that_of_the_weights_that_are_left():
    assert spread_of(torch.tensor([1.0, 3.0, 0.0, 0.0])) == 1.0
    assert spread_of(torch.tensor([0.0, 5.0])) == 1.0


def test_a_scan_finds_the_largest_quality_that_costs_no_more_than_the_drop():
    """The figure falls by 0.1 with every weight of a that goes, and by 1 with any of b."""
    w = {"a": torch.arange(1.0, 9.0), "b": torch.arange(1.0, 5.0)}
    before = {n: x.clone() for n, x in w.items()}
    sigma = {"a": 2.0, "b": 1.0}

    def figure():
        return 5.0 - 0.1 * int((w["a"] == 0).sum()) - 1.0 * int((w["b"] == 0).sum())

    found = scan(w, sigma, figure, drop=0.35)
    # Three of a may go: 3 < q σ <= 4, and the bisection ends within 4/2⁸ below the point where a fourth would.
    assert 2.0 - 4 / 2**8 <= found["a"] <= 2.0
    assert 1.0 - 4 / 2**8 <= found["b"] <= 1.0  # none of b
    assert all(torch.equal(before[n], w[n]) for n in w)


def test_one_factor_on_all_thresholds_meets_the_density():
    generator = torch.Generator().manual_seed(0)
    w = {"a": torch.randn(40, generator=generator), "b": 5 * torch.randn(60, generator=generator)}
    units = {"a": 0.5, "b": 4.0}
    masks = above(w, units, density=0.3)
    assert sum(int(m.sum()) for m in masks.values()) == 30
    kept = min(float((w[n].abs() / units[n])[masks[n]].min()) for n in w)
    gone = max(float((w[n].abs() / units[n])[~masks[n]].max()) for n in w)
    assert gone < kept
    assert int(above(w, {"a": 1e9, "b": 1.0}, density=0.1)["a"].sum()) == 1


def test_every_round_cuts_the_trained_weights_of_the_one_before_to_its_density(tmp_path):
    begun = {}
    done = run(tmp_path / "run", begun=begun)
    names, total = done.plan.names, 96 + 32
    assert list(begun) == ["pretrain", "round-1", "round-2", "prune"]
    left = [sum(int((begun[stage][n] != 0).sum()) for n in names) for stage in list(begun)[1:]]
    assert left == [round(done.plan.density ** (j / 3) * total) for j in (1, 2, 3)]
    assert [s.nonzero for s in done.result.stages[1:]] == left
    before = load_file(tmp_path / "run/before.safetensors")
    for name in names:  # survivors are not drawn anew: they are those that were trained
        mask = begun["round-1"][name] != 0
        assert torch.equal(begun["round-1"][name][mask], before[name][mask])
        assert bool((begun["round-2"][name][~mask] == 0).all())
    assert done.result.method == "Quality threshold (Han)"
    assert done.result.pruning_epochs == 3 * TRAINING.epochs


def test_as_scanned_the_thresholds_are_the_papers(tmp_path):
    done = run(tmp_path / "run", rounds=1, onto_plan=False)
    said, before = (
        read_mapping(tmp_path / "run/scan-1.json"),
        load_file(tmp_path / "run/before.safetensors"),
    )
    masks = load_file(tmp_path / "run/scan-1.safetensors")
    for name in done.plan.names:
        w = before[name]
        assert said["sigma"][name] == pytest.approx(float(w.std(correction=0)))
        assert torch.equal(masks[name], w.abs() >= said["quality"][name] * said["sigma"][name])
        assert torch.equal(done.model.get_parameter(name) != 0, masks[name])


def test_dropout_falls_with_the_root_of_the_connections_before_it():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 4), nn.Dropout(0.2))
    masks = {
        "0.weight": torch.arange(16).reshape(4, 4) < 4,
        "2.weight": torch.arange(16).reshape(4, 4) < 16,
    }
    assert adjusted(model, masks, {"1": 0.5, "3": 0.2}) == {"1": 0.5 * math.sqrt(4 / 16), "3": 0.2}


@pytest.mark.parametrize("dropout", [True, False])
def test_the_rates_of_every_round_are_from_the_first_rate(tmp_path, dropout):
    done = run(tmp_path / "run", dropout=dropout)
    masks = load_file(tmp_path / "run/scan-3.safetensors")
    share = int(masks["0.weight"].sum()) / masks["0.weight"].numel()
    assert done.model[3].p == pytest.approx(0.2 * math.sqrt(share) if dropout else 0.2)


@pytest.mark.parametrize("count", [36, 40, 50, 66, 80])
def test_killed_in_any_round_it_ends_with_the_same_bytes(tmp_path, monkeypatch, count):
    whole = run(tmp_path / "whole", retrain=Training(epochs=1))
    with stopped_at(monkeypatch, "espalier.training._loop.train_step", count):
        run(tmp_path / "half", retrain=Training(epochs=1))
    again = run(tmp_path / "half", retrain=Training(epochs=1), resume=True)
    assert weights_of(again.model) == weights_of(whole.model)
    assert again.model[3].p == whole.model[3].p
    assert timeless(again.result) == timeless(whole.result)
