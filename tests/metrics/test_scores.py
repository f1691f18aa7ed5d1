"""Scores as metrics: what stays is what the paper's score ranks highest."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import espalier as esp
from espalier._ground.tree import load_tree, save_tree
from espalier.metrics import Movement, Taylor, ranking
from espalier.sets import Filters, Shared, Unstructured

STEPS = 12


class Linear(nn.Module):
    def __init__(self, *w):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([w]))


def gauge_of(metric, points):
    """A gauge after gradients g at weights w, step by step."""
    model = Linear(*points[0][0])
    gauge = metric.gauge(model, ("w",), None)
    assert gauge.diagonal({"w": model.w}) is None
    for w, g in points:
        model.w.data = torch.tensor([w])
        gauge.observe({"w": torch.tensor([g])})
    h = gauge.diagonal({"w": model.w})
    return (h["w"] * model.w.detach().double().square()).flatten().tolist()


def test_movement_by_hand():
    """S = −Σ g w: −(1·2 + 3·1) = −5, −(−2·1 − 1·2) = 4, −(0·5 + 1·5) = −5 … less the least."""
    points = [([2.0, 1.0, 5.0], [1.0, -2.0, 0.0]), ([1.0, 2.0, 5.0], [3.0, -1.0, 0.6])]
    assert gauge_of(Movement(), points) == pytest.approx([0.0, 9.0, 2.0])


def test_movement_is_positive_where_descent_moves_a_weight_away_from_zero():
    """w⁺ = w − η g: |w| rises where g and w have opposite signs."""
    kept = gauge_of(Movement(), [([1.0, 1.0, -1.0, -1.0], [1.0, -1.0, 1.0, -1.0])])
    assert kept == pytest.approx([0.0, 2.0, 2.0, 0.0])


def test_taylor_by_hand():
    """(1 − β)(g w)² of the last step, β times the mean before."""
    points = [([2.0, 1.0], [1.0, -3.0]), ([1.0, 2.0], [4.0, 0.5])]
    assert gauge_of(Taylor(beta=0.75), points) == pytest.approx([3.0 + 4.0, 6.75 + 0.25])


def test_while_the_weights_stand_still_taylor_is_fisher():
    """mean((g w)²)/w² = mean(g²)."""
    model = Linear(0.5, -2.0, 3.0)
    gauges = [
        Taylor(beta=0.9).gauge(model, ("w",), None),
        esp.metrics.Fisher(beta=0.9).gauge(model, ("w",), None),
    ]
    for seed in range(5):
        g = torch.randn(1, 3, generator=torch.Generator().manual_seed(seed))
        for gauge in gauges:
            gauge.observe({"w": g})
    taylor, fisher = (gauge.diagonal({"w": model.w})["w"] for gauge in gauges)
    torch.testing.assert_close(taylor.float(), fisher)


def test_a_weight_that_is_zero_has_the_lowest_energy_whatever_its_score():
    h = ranking({"w": torch.tensor([-3.0, 100.0, -1.0])}, {"w": torch.tensor([1.0, 0.0, 1.0])})
    assert Unstructured().project(torch.tensor([1.0, 0.0, 1.0]), 1, h["w"]).tolist() == [
        0.0,
        0.0,
        1.0,
    ]


@given(seed=st.integers(0, 10**6), keep=st.integers(0, 24), negative=st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_nearest_point_keeps_the_largest_scores_of_all_tensors(seed, keep, negative):
    """Integer scores, so that no rounding decides; weights over five orders of magnitude."""
    generator = torch.Generator().manual_seed(seed)
    w = {n: 10 ** (-5 * torch.rand(12, generator=generator)) for n in "ab"}
    w["a"] = -w["a"]
    drawn = torch.randperm(24, generator=generator).float() + 1 - (12 if negative else 0)
    s = dict(zip("ab", drawn.split(12), strict=True))
    both = Shared(Unstructured(), {"a": 1, "b": 1}, limit=keep, minimum=0)
    masks = both.support(w, ranking(s, w))
    kept = torch.cat([s[n][masks[n]] for n in "ab"]).sort().values
    assert torch.equal(kept, drawn.sort().values[24 - keep :])


def test_units_of_one_size_are_ranked_by_their_sums():
    w = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    s = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    kept = Filters().support(w, 2, ranking({"w": s}, {"w": w})["w"])[:, 0]
    assert sorted(s.sum(1)[kept].tolist()) == sorted(s.sum(1).tolist())[2:]


def pruned(metric, solver, at=None, tmp_path=None):
    """A small regression; at a step it is saved and read back into fresh parts."""

    def begin():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        plan = esp.plan(model, density=0.3)
        return (
            model,
            optimizer,
            esp.Pruning(model, plan, solver, optimizer, STEPS, metric=metric, cadence=3),
        )

    model, optimizer, handle = begin()
    for step in range(STEPS):
        if step == at:
            saved = [part.state_dict() for part in (model, optimizer, handle)]
            save_tree(tmp_path / "half", saved)
            model, optimizer, handle = begin()
            read = load_tree(tmp_path / "half")
            for part, one in zip((model, optimizer, handle), read, strict=True):
                part.load_state_dict(one)
        x = torch.randn(16, 6, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss = (model(x) - x[:, :1]).square().mean()
        loss.backward()
        handle.add_gradients_()
        optimizer.step()
        handle.step(loss)
    handle.hard_prune_()
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("solver", [esp.Gradual(), esp.OneShot()])
@pytest.mark.parametrize("metric", [Movement(), Taylor()])
def test_they_choose_otherwise_than_magnitude_and_resume_to_the_same_bytes(
    metric, solver, tmp_path
):
    whole = pruned(metric, solver)
    again = pruned(metric, solver, at=5, tmp_path=tmp_path)
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    plain = pruned(esp.metrics.Identity(), solver)
    assert any(not torch.equal(whole[n] != 0, plain[n] != 0) for n in whole)
    assert sum(int((w != 0).sum()) for n, w in whole.items() if "weight" in n) == 14 + 2
