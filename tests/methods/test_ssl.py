"""The group lasso: its steps by hand, its optimum, and what a cut takes along."""

import math

import pytest
import torch
from torch import nn

import espalier as esp
from espalier.errors import RequestError, ShapeError
from espalier.methods import SSL, Lasso, Setting
from espalier.methods._group_lasso import groups_of
from espalier.training import Training
from training.problem import Points, network, plan_for, prune_run, stopped_at, timeless, weights_of

A = torch.tensor([[3.0, 4.0, 0.0], [0.3, -0.4, 0.0], [0.0, 0.1, 2.0]], dtype=torch.float64)


def prox(w, step=1.0, **prices):
    for each in groups_of(w.shape, **prices):
        w = each.shrunk(w, step)
    return w


def test_the_proximal_step_by_hand():
    """Norms 5, 0.5, √4.01 less ηλ = 1; columns likewise."""
    rows = prox(A, 0.5, filters=2.0)
    expected = torch.stack([A[0] * 0.8, A[1] * 0, A[2] * (1 - 1 / math.sqrt(4.01))])
    torch.testing.assert_close(rows, expected)
    assert torch.signbit(rows[1]).sum() == 0
    columns = prox(A, 0.5, channels=2.0)
    torch.testing.assert_close(columns, prox(A.T, 0.5, filters=2.0).T)


def test_every_kind_has_the_groups_of_the_paper():
    w = torch.randn(4, 3, 2, 5, generator=torch.Generator().manual_seed(0))
    norms = {
        "filters": w.square().sum((1, 2, 3)), "channels": w.square().sum((0, 2, 3)),
        "shapes": w.square().sum(0).flatten(), "depth": w.square().sum(),
    }  # fmt: skip
    for kind, squares in norms.items():
        (one,) = groups_of(w.shape, **{kind: 1.0})
        torch.testing.assert_close(one.norms(w).flatten(), squares.sqrt().flatten())


@pytest.mark.parametrize(
    "prices", [{"filters": 1.0, "depth": 0.5}, {"shapes": 0.3, "channels": 0.4, "depth": 0.2}]
)
def test_of_nested_groups_the_steps_in_turn_are_the_step_of_the_sum(prices):
    """w = prox(a) if and only if a − w is in λ∂R(w): checked where no group is zero, by the gradient."""
    a = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3
    w = prox(a, **prices)
    kinds = groups_of(a.shape, **prices)
    assert all(bool((each.norms(w) > 0).all()) for each in kinds)
    torch.testing.assert_close(a - w, sum(each.subgradient(w) for each in kinds))


def test_the_sub_gradient_is_that_of_the_regulariser():
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(12, 2)).double()
    plan = esp.plan(model, density=0.5)
    method = SSL(filters=0.3, channels=0.2, shapes=0.1, depth=0.4, proximal=False)
    handle = Lasso(model, plan, method, torch.optim.SGD(model.parameters(), lr=0.1))
    w = model[0].weight
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    handle.add_gradients_()
    x = w.detach().requires_grad_()
    flat = (
        0.3 * x.flatten(1).norm(dim=1).sum() + 0.2 * x.transpose(0, 1).flatten(1).norm(dim=1).sum()
    )
    whole = flat + 0.1 * x.flatten(1).norm(dim=0).sum() + 0.4 * x.norm()
    torch.testing.assert_close(w.grad, torch.autograd.grad(whole, x)[0])
    dense = model[2].weight.detach()
    rest = (
        0.3 * dense.norm(dim=1).sum() + (0.2 + 0.1) * dense.norm(dim=0).sum() + 0.4 * dense.norm()
    )
    assert handle.regulariser() == pytest.approx(float((whole + rest).detach()))
    assert not model[0].bias.grad.any()


class Target(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(3, 3, dtype=torch.float64))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("proximal", [True, False])
def test_it_reaches_the_known_optimum(momentum, proximal):
    """min ½‖W − A‖² + λ Σ‖W_o‖ is W_o = A_o max(0, 1 − λ/‖A_o‖), whatever the momentum."""
    model = Target()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=momentum)
    method = SSL(filters=0.7, proximal=proximal, threshold=0.03)
    handle = Lasso(model, esp.plan(model, keep={"w": 9}), method, optimizer)
    for _ in range(1500):
        optimizer.zero_grad()
        loss = 0.5 * (model.w - A).square().sum()
        loss.backward()
        handle.add_gradients_()
        optimizer.step()
        handle.step(loss)
    optimum = prox(A, 0.7, filters=1.0)
    assert not optimum[1].any()
    if proximal:
        assert not model.w[1].any()  # exactly, before any cut
        assert handle.nothing_to_cut()
    handle.hard_prune_()
    torch.testing.assert_close(model.w.detach(), optimum, rtol=0, atol=1e-6)


def small():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(12, 2),
    )  # fmt: skip


def test_a_filter_that_goes_takes_its_bias_its_batchnorm_and_what_reads_it_along():
    model = small()
    x = torch.randn(2, 1, 6, 6)
    plan = esp.plan(
        model,
        set=esp.sets.Filters(),
        density=0.9,
        include=["0.weight", "3.weight"],
        example_input=x,
    )
    with torch.no_grad():
        model[0].weight[2] *= 1e-6
        model[3].weight[0] *= 1e-6
    handle = Lasso(model, plan, SSL(), torch.optim.SGD(model.parameters(), lr=0.1))
    assert not handle.nothing_to_cut()
    handle.hard_prune_()
    assert [bool(w.any()) for w in model[0].weight] == [True, True, False, True]
    assert [float(p.detach()[2]) for p in (model[0].bias, model[1].weight, model[1].bias)] == [
        0,
        0,
        0,
    ]
    assert not model[3].weight[:, 2].any()
    assert not model[3].weight[0].any()
    assert not model[3].bias[0]
    assert not model[6].weight[:, :4].any()
    assert model[6].weight[:, 4:].all()
    assert handle.nothing_to_cut()


def test_the_prices_decide_the_density_and_onto_plan_the_plan():
    def run(**settings):
        torch.manual_seed(0)
        model = network(batchnorm=False)
        handle = Lasso(
            model, esp.plan(model, set=esp.sets.Filters(), density=0.5, include=["0.weight"]),
            SSL(threshold=0.5, **settings), torch.optim.SGD(model.parameters(), lr=0.1),
        )  # fmt: skip
        handle.hard_prune_()
        return int(model[0].weight.any(1).sum()), handle.nothing_to_cut()

    left, clean = run()
    assert (left != 8, clean) == (True, True)
    assert run(onto_plan=True) == (min(left, 8), True)


@pytest.mark.parametrize("proximal", [True, False])
def test_killed_in_the_middle_it_ends_with_the_same_bytes(tmp_path, monkeypatch, proximal):
    def run(name, **more):
        torch.manual_seed(0)
        return prune_run(
            network(), Points(), plan_for, SSL(filters=0.02, proximal=proximal), folder=tmp_path / name,
            prune=Training(epochs=8, optimizer="sgd", lr=0.05), checkpoint_every=4, **more,
        )  # fmt: skip

    whole = run("whole")
    with stopped_at(monkeypatch, "espalier.training._loop.train_step", 54):
        run("half")
    again = run("half", resume=True)
    assert weights_of(again.model) == weights_of(whole.model)
    assert timeless(again.result) == timeless(whole.result)
    assert whole.result.certificate.updates == 1


def test_without_a_price_or_where_channels_are_none_it_is_refused():
    with pytest.raises(RequestError, match="give filters, channels, shapes or depth > 0"):
        SSL(filters=0.0)
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2))
    setting = Setting(optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
    with pytest.raises(ShapeError, match="in 2 groups"):
        SSL(channels=1.0).attach(model, esp.plan(model, density=0.5), setting)
