"""Sharpness-aware steps: the literal step, what they leave alone, and what they cost."""

import pytest
import torch
from torch import nn

import espalier as esp
from espalier.errors import RequestError
from espalier.methods import Keeping
from espalier.runs import Result
from espalier.training import Training, fit, train_step
from espalier.training._sharpness import sharpest
from training.problem import (
    Points,
    network,
    optimizer_for,
    plan_for,
    prune_run,
    pruned_fit,
    weights_of,
)
from training.test_resume import attempt

RADIUS, RATE = 0.3, 0.1
CURVATURE = torch.tensor([[4.0, 1.0], [1.0, 2.0]], dtype=torch.float64)


class Quadratic:
    """½ wᵀA w; ``seen`` are the points at which it was asked for."""

    def __init__(self):
        self.seen = []

    def loss(self, model, batch):
        self.seen.append(model.w.detach().clone())
        return 0.5 * model.w @ CURVATURE @ model.w


class Point(nn.Module):
    def __init__(self, *values):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(values, dtype=torch.float64))


def step(model, task, handle=None, radius=RADIUS):
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    return train_step(model, task, None, optimizer, handle, sam=radius)


def test_two_steps_by_hand():
    """w ← w − η A(w + r Aw/‖Aw‖)."""
    model, w = Point(1.0, -2.0), torch.tensor([1.0, -2.0], dtype=torch.float64)
    for _ in range(2):
        loss = step(model, Quadratic())
        g = CURVATURE @ w
        assert float(loss) == float(0.5 * w @ g)  # f where the weights are, not where it is highest
        w = w - RATE * CURVATURE @ (w + RADIUS * g / g.norm())
        torch.testing.assert_close(model.w.detach(), w, rtol=0, atol=1e-15)


def test_within_a_radius_of_nothing_it_is_the_plain_step_to_the_bit():
    found = []
    for radius in (0.0, 1e-30):
        model = Point(1.0, -2.0)
        step(model, Quadratic(), radius=radius)
        found.append(model.w.tolist())
    assert found[0] == found[1]


def test_where_there_is_no_slope_there_is_no_step():
    model = Point(0.0, 0.0)
    step(model, Quadratic())
    assert model.w.tolist() == [0.0, 0.0]


def test_the_pull_is_of_the_weights_as_they_are_and_comes_after_the_second_gradient():
    task, model = Quadratic(), Point(1.0, -2.0)
    seen = {}

    class Watching(Keeping):
        def add_gradients_(self):
            seen.update(w=self.model.w.detach().clone(), grad=self.model.w.grad.clone())

    before = model.w.detach().clone()
    step(model, task, Watching(model, esp.plan(model, keep={"w": 2}), {}))
    assert torch.equal(seen["w"], before)
    torch.testing.assert_close(seen["grad"], CURVATURE @ task.seen[1])
    assert not torch.equal(task.seen[1], before)


def test_held_zeros_stay_zero_at_the_highest_point_too():
    task, model = Quadratic(), Point(0.0, -2.0)
    held = {"w": torch.tensor([False, True])}
    step(model, task, Keeping(model, esp.plan(model, keep={"w": 1}), held))
    assert task.seen[1].tolist() == [
        0.0,
        -2.0 - RADIUS,
    ]  # and the whole radius is the other weight's


def test_a_failing_second_pass_leaves_the_weights_as_they_were():
    w = nn.Parameter(torch.tensor([0.1, 0.2]))
    w.grad = torch.tensor([1.0, 3.0])
    before = w.detach().numpy().tobytes()
    with pytest.raises(ZeroDivisionError), sharpest({"w": w}, 0.7):
        raise ZeroDivisionError
    assert w.detach().numpy().tobytes() == before


def test_both_passes_are_of_one_function_and_leave_one_trace():
    """The same dropout in both; BatchNorm counts the batch once; the generator moves as in a plain step."""
    kept, after = [], []
    for radius in (0.0, 0.05):
        torch.manual_seed(3)
        model, task = network(dropout=0.5), Points()
        model[3].register_forward_hook(lambda m, i, out: kept.append(out != 0))
        train_step(
            model, task, next(iter(task.batches(0))), optimizer_for(model, "adam"), sam=radius
        )
        after.append(
            (model[1].running_mean.clone(), int(model[1].num_batches_tracked), torch.rand(3))
        )
    assert len(kept) == 3
    dead = ~kept[1] & ~kept[2]
    assert (
        float((kept[1] == kept[2]).float().mean()) > 0.95
    )  # but for a ReLU that the move switched
    assert dead.any()
    assert torch.equal(after[0][0], after[1][0])
    assert (after[0][1], after[1][1]) == (1, 1)
    assert torch.equal(after[0][2], after[1][2])


def test_along_a_valley_of_minima_it_goes_to_the_flattest():
    """f = ½(xy − 1)² is 0 wherever xy = 1; its curvature there, x² + y², is least at (1, 1)."""

    class Valley:
        def loss(self, model, batch):
            return 0.5 * (model.w[0] * model.w[1] - 1.0) ** 2

    ends = {}
    for radius in (0.0, 0.2):
        model = Point(2.1, 0.5)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        for _ in range(1500):
            train_step(model, Valley(), None, optimizer, sam=radius)
        ends[radius] = model.w.detach()
    assert float(ends[0.0][0] - ends[0.0][1]) > 1.5
    assert float(ends[0.0].prod()) == pytest.approx(1.0)
    torch.testing.assert_close(ends[0.2], torch.ones(2, dtype=torch.float64), rtol=0, atol=0.05)


def test_with_a_falling_rate_it_ends_at_the_minimum_of_a_convex_function():
    model, task = Point(1.0, -2.0), Quadratic()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    for k in range(3000):
        optimizer.param_groups[0]["lr"] = RATE / (1 + 0.1 * k)
        train_step(model, task, None, optimizer, sam=RADIUS)
    assert float(model.w.detach().norm()) < 1e-3


@pytest.mark.parametrize("solver", ["slr", "gradual", None])
@pytest.mark.parametrize("at", [5, 17])
def test_resumed_it_ends_with_the_same_bytes(tmp_path, solver, at):
    whole = attempt(tmp_path / "whole", None, solver, sam=0.05)
    plain = attempt(tmp_path / "plain", None, solver)
    attempt(tmp_path / "run", at, solver, sam=0.05)
    assert attempt(tmp_path / "run", None, solver, sam=0.05) == whole
    assert plain[0] != whole[0]


@pytest.mark.parametrize(
    "method", [esp.SLR(), esp.ADMM(), esp.Gradual(), esp.methods.L0(), esp.solvers.RigL()]
)
def test_it_is_an_option_of_the_training_for_every_method_and_a_step_counts_two(tmp_path, method):
    done = [
        prune_run(
            network(), Points(), plan_for, method, folder=tmp_path / f"{sam}",
            prune=Training(epochs=2, sam=sam), retrain=Training(epochs=1),
        )
        for sam in (0.0, 0.05)
    ]  # fmt: skip
    assert weights_of(done[0].model) != weights_of(done[1].model)
    counted = [[(s.steps, s.gradients) for s in one.result.stages] for one in done]
    assert counted == [[(16, 16), (8, 8)], [(16, 32), (8, 8)]]
    assert [one.result.pruning_epochs for one in done] == [2, 4]
    assert [one.result.epochs["prune"] for one in done] == [2, 2]


def test_an_older_result_counts_one_gradient_a_step(tmp_path):
    done = prune_run(
        network(),
        Points(),
        plan_for,
        esp.Gradual(),
        folder=tmp_path / "run",
        prune=Training(epochs=2),
    )
    content = done.result.to_dict()
    for stage in content["stages"]:
        del stage["gradients"]
    assert Result.model_validate(content).pruning_epochs == 2


def test_what_fit_returns_counts_them_too():
    _, _, result = pruned_fit(epochs=2, sam=0.01)
    assert (result.steps, result.gradients) == (16, 32)


def test_a_negative_radius_is_refused():
    model = network()
    with pytest.raises(RequestError, match="sam >= 0"):
        Training(epochs=1, sam=-0.1)
    with pytest.raises(RequestError, match="a radius > 0"):
        fit(model, Points(), optimizer=optimizer_for(model, "adam"), epochs=1, sam=float("nan"))
