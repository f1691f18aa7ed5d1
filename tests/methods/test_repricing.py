"""Solvers whose budget moves between two updates: literally, exactly resumed, and never beyond the whole."""

import pytest
import torch
from torch import nn

import espalier as esp
from espalier.budgets import Shadow
from espalier.errors import RequestError
from espalier.methods import Constrained, Pruning
from espalier.methods._repricing import repriced
from espalier.sets._priced import priced
from espalier.solvers import ADMM, SLR, Constant, Gradual, Penalty, Pulling
from espalier.solvers._algebra import ascend


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3))


def planned(model, by="multipliers", rate=0.3):
    return esp.plan(model, density=0.3, allocation=Shadow(rate=rate, by=by))


def batches(n, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n):
        x = torch.randn(16, 6, generator=generator)
        yield x, (x[:, 0] * 2 - x[:, 1:2].squeeze()).unsqueeze(1).repeat(1, 3)


def trained(pruning, model, optimizer, steps, seed=1):
    for x, y in batches(steps, seed):
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        pruning.add_gradients_()
        optimizer.step()
        pruning.step(loss)


def handle(model, solver, by="multipliers", steps=None, **settings):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    settings = {"cadence": 5, "opening": Constant(), "settle": None, **settings}
    method = Constrained(solver=solver, **settings)
    return Pruning(
        model, planned(model, by), method, optimizer, steps=steps, advise=False
    ), optimizer


def test_the_prices_are_the_multipliers_of_what_is_outside_the_projected_point():
    """By hand: Z = Π(W + Λ/ρ) at the parts as they stand, then one move by the energies of Λ outside Z."""
    model = network()
    plan = planned(model)
    part = priced(plan)
    w = {n: model.get_parameter(n).detach() for n in plan.names}
    generator = torch.Generator().manual_seed(3)
    multiplier = {n: torch.randn(x.shape, generator=generator) for n, x in w.items()}
    state = Pulling(z=w, multiplier=multiplier, rho=0.5)
    moved = priced(repriced(plan, w, state, None, decoupled=False))
    z = part.project(ascend(w, 2.0, multiplier))
    assert moved.parts == part.moved(multiplier, None, z).parts
    assert moved.parts != part.parts
    heavy = {n: torch.full_like(x, 4.0) for n, x in w.items()}
    alike = priced(repriced(plan, w, state, heavy, decoupled=True))
    assert alike.parts == pytest.approx(
        moved.parts
    )  # one norm for all changes no price beside another


def test_a_plan_without_moving_parts_is_left_as_it_is():
    model = network()
    plan = esp.plan(model, density=0.3)
    w = {n: model.get_parameter(n).detach() for n in plan.names}
    assert repriced(plan, w, Pulling(), None, decoupled=False) is plan


@pytest.mark.parametrize("solver", [SLR(), ADMM()], ids=["slr", "admm"])
def test_the_budget_moves_while_it_trains_and_the_cut_is_within_the_whole(solver):
    model = network()
    pruning, optimizer = handle(model, solver)
    before = priced(pruning._budget).parts
    trained(pruning, model, optimizer, 60)
    after = priced(pruning._budget).parts
    assert after != before
    assert sum(after.values()) == pytest.approx(sum(before.values()))
    pruning.hard_prune_()
    left = {n: int(model.get_parameter(n).count_nonzero()) for n in after}
    assert left == priced(pruning._budget).keep
    assert pruning.plan.contains({n: p.detach() for n, p in model.named_parameters()})


def test_by_energies_a_solver_without_multipliers_moves_it_too():
    model = network()
    pruning, optimizer = handle(model, Gradual(), by="energies", steps=60)
    before = priced(pruning._budget).parts
    trained(pruning, model, optimizer, 60)
    assert priced(pruning._budget).parts != before


@pytest.mark.parametrize("solver", [Gradual(), Penalty()], ids=["gradual", "penalty"])
def test_a_solver_without_multipliers_is_told_what_to_price_by(solver):
    with pytest.raises(RequestError, match="by: energies"):
        handle(network(), solver)


@pytest.mark.parametrize("stop", [7, 25, 31])
def test_a_resume_goes_on_with_the_parts_as_they_stood(stop):
    whole, half = network(), network()
    one, of_one = handle(whole, SLR())
    trained(one, whole, of_one, 40)
    first, of_first = handle(half, SLR())
    data = list(batches(40))

    def go(pruning, model, optimizer, rows):
        for x, y in rows:
            optimizer.zero_grad()
            loss = (model(x) - y).square().mean()
            loss.backward()
            pruning.add_gradients_()
            optimizer.step()
            pruning.step(loss)

    go(first, half, of_first, data[:stop])
    again, of_again = handle(half, SLR())
    again.load_state_dict(first.state_dict())
    go(again, half, of_again, data[stop:])
    assert priced(again._budget) == priced(one._budget)
    for mine, theirs in zip(half.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_state_of_a_plan_with_other_parts_is_refused():
    model = network()
    pruning, _ = handle(model, SLR())
    saved = pruning.state_dict()
    with pytest.raises(RequestError, match="parts of the budget"):
        pruning.load_state_dict({**saved, "parts": {"x": 1.0}})


def test_a_state_from_before_budgets_moved_is_read():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    plan = esp.plan(model, density=0.3)
    pruning = Pruning(model, plan, SLR(), optimizer, steps=60, advise=False)
    saved = {k: v for k, v in pruning.state_dict().items() if k != "parts"}
    pruning.load_state_dict(saved)
