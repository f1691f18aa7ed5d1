"""Quantisation as a constraint: zeros stay, solvers reach the levels, both constraints at once."""

import pytest
import torch
from torch import nn

import espalier as esp
from espalier.errors import RequestError, ShapeError, UnknownNameError
from espalier.sets import Levels, OnLevels

KEEP = {"0.weight": 20, "2.weight": 6}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 1))


def pruned():
    model = network()
    plan = esp.plan(model, keep=KEEP)
    esp.Pruning(model, plan, esp.OneShot()).hard_prune_()
    return model, plan


def named(model):
    return dict(model.named_parameters())


def train(model, pruning, optimizer, steps, watch=lambda loss: None):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(64, 10, generator=generator)
    y = x[:, :3].sum(1, keepdim=True)
    for _ in range(steps):
        loss = (model(x) - y).square().mean()
        loss.backward()
        pruning.add_gradients_()
        optimizer.step()
        optimizer.zero_grad()
        pruning.step(loss)
        watch(float(loss.detach()))


@pytest.mark.parametrize(
    ("solver", "settings"),
    [
        (esp.ADMM(), {"cadence": 3, "settle": None}),
        (esp.SLR(), {"cadence": 3, "settle": None}),
        (
            esp.Penalty(rho=10.0),
            {"cadence": 3, "settle": None, "metric": esp.metrics.AdamMoment(), "decoupled": True},
        ),
        (esp.OneShot(), {}),
        (
            esp.ADMM(),
            {"cadence": 3},
        ),  # settles: its pull ends early, its cut is on levels all the same
    ],
)
def test_the_pruned_zeros_never_move_and_the_cut_is_on_levels(solver, settings):
    model, _ = pruned()
    masks = {n: model.get_parameter(n).detach() != 0 for n in KEEP}
    quantisation = esp.quantise_plan(model, bits=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=1e-2)
    pruning = esp.Pruning(model, quantisation, solver, optimizer, steps=30, **settings)

    def zeros_are_zero(_):
        assert all(not model.get_parameter(n)[~mask].any() for n, mask in masks.items())

    train(model, pruning, optimizer, 30, watch=zeros_are_zero)
    with pruning.hard_pruned():
        assert quantisation.contains(named(model))
    assert not quantisation.contains(named(model))
    pruning.hard_prune_()
    assert quantisation.contains(named(model))
    assert {n: Levels(2).codes(model.get_parameter(n))[1] for n in KEEP} == quantisation.steps(
        named(model)
    )
    for n, mask in masks.items():
        assert torch.equal(model.get_parameter(n) != 0, mask)


@pytest.mark.parametrize(
    ("solver", "cadence"), [(esp.SLR(step=0.01), 20), (esp.Penalty(rho=0.01), 5)]
)
def test_a_solver_brings_the_weights_nearer_to_their_levels_and_loses_less(solver, cadence):
    """Against training alone and quantising once: half the violation, and a lower loss on the levels."""

    def run(solver, cadence):
        model, _ = pruned()
        quantisation = esp.quantise_plan(model, bits=2)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        pruning = esp.Pruning(model, quantisation, solver, optimizer, cadence=cadence, settle=None)
        losses = []
        train(model, pruning, optimizer, 600)
        pruning.hard_prune_()
        train(model, pruning, torch.optim.SGD(model.parameters(), lr=0.0), 1, losses.append)
        violation = [u.violation for u in pruning.updates][-1]
        return violation, losses[0]

    violation, loss = run(solver, cadence)
    alone_violation, alone_loss = run(esp.OneShot(), 5)
    assert violation < 0.5 * alone_violation
    assert loss < 0.75 * alone_loss


def test_weights_that_nothing_pulls_are_not_called_converged():
    model, _ = pruned()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    pruning = esp.Pruning(
        model, esp.quantise_plan(model, bits=1), esp.OneShot(), optimizer, cadence=1
    )
    train(model, pruning, optimizer, 3)
    assert pruning.certificate().total_violation > 0.05
    assert pruning.certificate().outcome is not esp.methods.Outcome.CONVERGED
    pruning.hard_prune_()
    assert pruning.certificate().outcome is esp.methods.Outcome.FORCED


def test_pruned_and_quantised_at_once_keeps_the_plans_support():
    model = network()
    plan = esp.plan(model, keep=KEEP)
    both = OnLevels(plan, {"0.weight": Levels(2), "2.weight": Levels(3)})
    weights = named(model)
    z = both.project(weights)
    for name, mask in plan.support(weights).items():
        assert torch.equal(z[name] != 0, mask)
        assert torch.equal(z[name], both.levels[name].project(plan.project(weights)[name]))
    assert both.contains(z)
    assert not both.contains(plan.project(weights))
    assert torch.equal(
        both.opened(0.5).project(weights)["0.weight"],
        plan.opened(0.5).project(weights)["0.weight"],
    )
    assert both.opened(0.0) is both


def test_pruning_and_quantising_in_one_run():
    model = network()
    both = OnLevels(esp.plan(model, keep=KEEP), dict.fromkeys(KEEP, Levels(3)))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    pruning = esp.Pruning(model, both, esp.ADMM(), optimizer, steps=40, cadence=2, settle=None)
    train(model, pruning, optimizer, 40)
    pruning.hard_prune_()
    assert both.contains(named(model))
    assert [int(model.get_parameter(n).count_nonzero()) for n in KEEP] == [20, 6]


def test_which_parameters_get_how_many_bits():
    model, _ = pruned()
    assert esp.quantise_plan(model, bits=4).bits == {"0.weight": 4, "2.weight": 4}
    chosen = esp.quantise_plan(model, bits={"*": 3, "2.weight": 2, "0.bias": 5})
    assert chosen.bits == {"0.weight": 3, "0.bias": 5, "2.weight": 2}
    assert chosen.names == ("0.weight", "0.bias", "2.weight")
    assert chosen.data_bits == 20 * 3 + 16 * 5 + 6 * 2
    assert esp.quantise_plan(model, bits={"2.*": 1}).names == ("2.weight",)


def test_what_does_not_fit_is_refused():
    model, plan = pruned()
    with pytest.raises(UnknownNameError, match=r"3\.weight"):
        esp.quantise_plan(model, bits={"3.weight": 2})
    with pytest.raises(RequestError, match=r"0\.weight: bits=0"):
        esp.quantise_plan(model, bits=0)
    with pytest.raises(RequestError, match="nothing to quantise"):
        esp.quantise_plan(nn.Sequential(nn.ReLU(), nn.LayerNorm(3)), bits=2)
    with pytest.raises(UnknownNameError, match="not constrained"):
        OnLevels(plan, {"0.bias": Levels(2)})
    quantisation = esp.quantise_plan(model, bits=2)
    with pytest.raises(UnknownNameError, match="does not have"):
        esp.Pruning(nn.Linear(2, 2), quantisation, esp.OneShot())
    with pytest.raises(ShapeError, match=r"0\.weight: shape"):
        quantisation.check(nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1)))


def test_resuming_is_exact():
    def begin():
        model, _ = pruned()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        pruning = esp.Pruning(
            model, esp.quantise_plan(model, bits=2), esp.ADMM(), optimizer, cadence=4, settle=None
        )
        return model, optimizer, pruning

    straight = begin()
    train(straight[0], straight[2], straight[1], 10)
    half = begin()
    train(half[0], half[2], half[1], 5)
    again = begin()
    for new, old in zip(again, half, strict=True):
        new.load_state_dict(old.state_dict())
    train(again[0], again[2], again[1], 5)
    for name, parameter in straight[0].named_parameters():
        assert torch.equal(parameter, again[0].get_parameter(name))
