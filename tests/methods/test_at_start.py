"""SNIP and GraSP: the scores of their papers, and masks that are there from the first step."""

import pytest
import torch
from torch import nn

import espalier as esp
from espalier.errors import RequestError
from espalier.methods import SNIP, FilterEntropy, GraSP, Setting
from espalier.runs import read_run
from espalier.training import Training, train_step
from training.problem import Points, network, plan_for, prune_run, stopped_at, timeless, weights_of

ADAM = Setting(optimizer=torch.optim.Adam)
METHODS = [SNIP(), GraSP(), FilterEntropy(batches=2)]


class Quadratic:
    """Batch b is ½ (w − c_b)ᵀ A (w − c_b), so g and H are known."""

    steps_per_epoch = 2
    A = torch.tensor([[2.0, 1.0, 0.0], [1.0, 3.0, -1.0], [0.0, -1.0, 1.0]])
    C = torch.tensor([[1.0, 0.0, 2.0], [-1.0, 1.0, 0.0]])

    def batches(self, epoch, start=0):
        return iter(self.C[start:])

    def loss(self, model, batch):
        d = model.w[0] - batch
        return 0.5 * d @ self.A @ d


class Point(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([[0.5, -2.0, 1.0]]))


@pytest.mark.parametrize("batches", [1, 2])
def test_the_scores_by_hand(batches):
    model, task = Point(), Quadratic()
    w = model.w.detach()[0]
    g = task.A @ (w - task.C[:batches].mean(0))
    snip = SNIP(batches=batches).scores(model, ["w"], task)["w"][0]
    grasp = GraSP(batches=batches).scores(model, ["w"], task)["w"][0]
    torch.testing.assert_close(snip, (g * w).abs())
    torch.testing.assert_close(grasp, w * (task.A @ g))
    assert model.w.grad is None


def test_the_second_derivative_is_that_of_a_network_too():
    """⟨Hg, d⟩ against a central difference of ∇L along d, in float64."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    x = torch.randn(8, 3, dtype=torch.float64)

    class Fit:
        def batches(self, epoch, start=0):
            return iter([x])

        def loss(self, model, batch):
            return (model(batch) - batch[:, :1].sin()).square().mean()

    names = [n for n, _ in model.named_parameters()]
    parameters = list(model.parameters())
    w = [p.detach().clone() for p in parameters]
    g = torch.autograd.grad(Fit().loss(model, x), parameters)

    def squared_norm(t):
        for p, start, d in zip(parameters, w, g, strict=True):
            p.data = start + t * d
        return sum(d.square().sum() for d in torch.autograd.grad(Fit().loss(model, x), parameters))

    slope = (squared_norm(1e-4) - squared_norm(-1e-4)) / 2e-4  # d‖g‖²/dt along g is 2 gᵀHg
    squared_norm(0.0)
    scores = GraSP().scores(model, names, Fit())
    curved = sum((scores[n] / s * d).sum() for n, s, d in zip(names, w, g, strict=True))
    torch.testing.assert_close(2 * curved, slope, rtol=1e-5, atol=0)


def test_grasp_keeps_the_weight_without_which_the_gradient_would_shrink_most():
    task, model = Quadratic(), Point()
    w = model.w.detach()[0].clone()
    change = []
    for i in range(3):  # to first order: a small part of the weight goes
        less = w.clone()
        less[i] -= 1e-4 * w[i]
        change.append(
            float((task.A @ (less - task.C[0])).norm() - (task.A @ (w - task.C[0])).norm())
        )
    plan = esp.plan(model, keep={"w": 1})
    GraSP().attach(model, plan, Setting(optimizer=torch.optim.Adam, task=task))
    assert int(model.w[0].nonzero()) == change.index(min(change))


@pytest.mark.parametrize("method", METHODS)
def test_the_zeros_are_the_plans_many_from_before_the_first_step_and_never_move(method):
    torch.manual_seed(0)
    model, task = network(), Points()
    plan = plan_for(model)
    setting = Setting(optimizer=torch.optim.Adam, task=task)
    handle = method.attach(model, plan, setting)
    first = {name: model.get_parameter(name) != 0 for name in plan.names}
    assert sum(int(m.sum()) for m in first.values()) == round(0.25 * (96 + 32))
    for batch in task.batches(0):
        train_step(model, task, batch, handle.optimizer, handle)
        assert all(torch.equal(model.get_parameter(n) != 0, m) for n, m in first.items())
    assert handle.nothing_to_cut()


@pytest.mark.parametrize("method", METHODS)
def test_scoring_leaves_no_trace_but_the_zeros(method):
    torch.manual_seed(0)
    model = network()
    before, buffers = weights_of(model), [b.clone() for b in model.buffers()]
    state = torch.get_rng_state()
    model.eval()
    method.scores(model, plan_for(model).names, Points())
    handle = method.attach(
        model, plan_for(model), Setting(optimizer=torch.optim.Adam, task=Points())
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(buffers, model.buffers(), strict=True))
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
    assert weights_of(model)["0.bias"] == before["0.bias"]
    handle.close()


def test_what_earlier_stages_hold_stays_and_is_chosen_last():
    model, task = Point(), Quadratic()
    with torch.no_grad():
        model.w[0, 1] = 0.0
    held = {"w": torch.tensor([[True, False, True]])}
    plan = esp.plan(model, keep={"w": 2})
    SNIP().attach(model, plan, Setting(optimizer=torch.optim.Adam, task=task, held=held))
    assert (model.w[0] != 0).tolist() == [True, False, True]


@pytest.mark.parametrize("method", METHODS)
def test_killed_in_the_middle_it_ends_with_the_same_bytes(tmp_path, monkeypatch, method):
    def run(name, **more):
        torch.manual_seed(0)
        return prune_run(
            network(), Points(), plan_for, method, folder=tmp_path / name,
            prune=Training(epochs=3), checkpoint_every=4, **more,
        )  # fmt: skip

    whole = run("whole")
    with stopped_at(monkeypatch, "espalier.training._loop.train_step", 14):
        run("half")
    again = run("half", resume=True)
    assert weights_of(again.model) == weights_of(whole.model)
    assert timeless(again.result) == timeless(whole.result)
    assert read_run(tmp_path / "half").result.method == method.title


def test_without_a_task_it_says_so():
    model = network()
    with pytest.raises(RequestError, match="SNIP scores the weights on batches of the task"):
        SNIP().attach(model, plan_for(model), ADAM)


def test_an_operation_without_a_second_derivative_is_refused_with_what_to_do():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, w):
            return w * 1.0

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, g):
            return g

    class Hard(Quadratic):
        def loss(self, model, batch):
            return Once.apply(model.w).square().sum()

    with pytest.raises(RequestError, match=r"grasp needs second derivatives.*choose snip"):
        GraSP().scores(Point(), ["w"], Hard())
