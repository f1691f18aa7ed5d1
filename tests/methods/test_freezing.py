"""Gradual freezing: who is frozen when, that nothing frozen moves, and that resuming is exact."""

import copy
import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import espalier as esp
from espalier.errors import RequestError
from espalier.methods import nearest_of_each_level
from espalier.sets import Levels

OPTIMIZERS = {
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
}


def begin(kind="adam", bits=2, **settings):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 1))
    plan = esp.plan(model, density=0.5)
    esp.Pruning(model, plan, esp.OneShot()).hard_prune_()
    optimizer = OPTIMIZERS[kind](model.parameters())
    freezing = esp.methods.Freezing(model, esp.quantise_plan(model, bits), optimizer, **settings)
    return model, optimizer, freezing


def train(model, optimizer, freezing, steps, watch=lambda: None):
    x = torch.randn(32, 12, generator=torch.Generator().manual_seed(1))
    for _ in range(steps):
        loss = (model(x) - x[:, :2].sum(1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        freezing.step(loss)
        watch()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-30, 30), st.booleans()), min_size=1, max_size=30),
    st.floats(0.01, 1.0),
)
def test_of_every_level_the_closest_part_is_chosen(weights, fraction):
    w = torch.tensor([value / 10 for value, _ in weights])
    free = torch.tensor([flag for _, flag in weights])
    z = Levels(3).nearest(w, 0.7, torch.ones_like(free))
    chosen = nearest_of_each_level(w, z, free, fraction)
    expected = torch.zeros_like(free)
    for level in z.unique():
        members = [i for i in range(len(w)) if free[i] and z[i] == level]
        members.sort(key=lambda i: (float((w[i] - z[i]).abs()), i))
        for i in members[: math.ceil(fraction * len(members))]:
            expected[i] = True
    assert torch.equal(chosen, expected)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_what_is_frozen_stays_where_it_was_put_to_the_bit(kind):
    model, optimizer, freezing = begin(kind, steps=20, rounds=4)
    seen = {}

    def watch():
        for name, fixed in freezing.fixed.items():
            now = model.get_parameter(name).detach()
            if name in seen:
                was_fixed, values = seen[name]
                assert bool((was_fixed <= fixed).all())
                assert torch.equal(now[was_fixed], values[was_fixed])
            seen[name] = (fixed.clone(), now.clone())

    watch()
    moved = model.get_parameter("0.weight").detach().clone()
    train(model, optimizer, freezing, 20, watch)
    assert not torch.equal(moved, model.get_parameter("0.weight"))  # the free ones did
    freezing.hard_prune_()
    assert freezing.constraint.contains(dict(model.named_parameters()))
    assert freezing.constraint.steps(dict(model.named_parameters()))["0.weight"] in [
        freezing.q["0.weight"] * k for k in (1, 2)
    ]
    train(model, optimizer, freezing, 3)
    assert freezing.constraint.contains(dict(model.named_parameters()))


def test_rounds_come_at_equal_intervals_and_each_takes_its_part():
    model, optimizer, freezing = begin(bits=1, steps=8, rounds=4, fraction=0.5)
    shares = [freezing.frozen]
    train(model, optimizer, freezing, 8, lambda: shares.append(freezing.frozen))
    changes = [step for step, (a, b) in enumerate(pairwise(shares), 1) if a < b]
    assert changes == [2, 4, 6]
    survivors = sum(int(m.sum()) for m in freezing.constraint.masks.values())
    assert 0.5 <= shares[0] <= 0.5 + 4 / survivors  # rounded up on each of four levels
    assert 1 - 0.5**4 <= shares[-1] <= 1.0


def test_as_if_quantised_now_and_back():
    model, optimizer, freezing = begin(steps=10, rounds=3)
    train(model, optimizer, freezing, 4)
    before = copy.deepcopy(model.state_dict())
    with freezing.hard_pruned():
        assert freezing.constraint.contains(dict(model.named_parameters()))
        inside = copy.deepcopy(model.state_dict())
    assert all(torch.equal(before[n], w) for n, w in model.state_dict().items())
    freezing.hard_prune_()
    assert all(torch.equal(inside[n], w) for n, w in model.state_dict().items())
    assert freezing.frozen == 1.0


@pytest.mark.parametrize("cut", [1, 4, 7])
def test_resuming_is_exact(cut):
    straight = begin(steps=9, rounds=4)
    train(*straight, 9)
    half = begin(steps=9, rounds=4)
    train(*half, cut)
    again = begin(steps=9, rounds=4)
    for new, old in zip(again, half, strict=True):
        new.load_state_dict(copy.deepcopy(old.state_dict()))
    train(*again, 9 - cut)
    for name, parameter in straight[0].named_parameters():
        assert torch.equal(parameter, again[0].get_parameter(name))


def test_without_steps_all_rounds_are_at_once_and_hard_pruning_takes_the_rest():
    model, _, freezing = begin(steps=0, rounds=2)
    assert 0.5 < freezing.frozen < 1
    freezing.hard_prune_()
    assert freezing.constraint.contains(dict(model.named_parameters()))


def test_zeros_of_other_parameters_that_earlier_stages_hold_stay_held():
    model, optimizer, freezing = begin(steps=0)
    mask = torch.arange(8) % 2 == 0
    held = {"0.bias": mask}
    freezing = esp.methods.Freezing(
        model, esp.quantise_plan(model, 2), optimizer, steps=4, held=held
    )
    with torch.no_grad():
        model.get_parameter("0.bias").mul_(mask)
    train(model, optimizer, freezing, 2)
    freezing.hard_prune_()
    train(model, optimizer, freezing, 2)
    bias = model.get_parameter("0.bias")
    assert not bias[~mask].any()
    assert bool(bias[mask].all())
    assert freezing.frozen == 1.0  # of the weights with levels


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"steps": -1}, "steps=-1; give"),
        ({"steps": float("nan")}, "steps=nan; give"),
        ({"rounds": 0}, "rounds >= 1"),
        ({"fraction": 0.0}, "0 < fraction <= 1"),
        ({"fraction": float("nan")}, "0 < fraction <= 1"),
    ],
)
def test_numbers_out_of_range_are_refused(wrong, told):
    with pytest.raises(RequestError, match=told):
        begin(**{"steps": 4, **wrong})
