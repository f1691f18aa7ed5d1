"""Settings become the torch objects they stand for."""

import math

import pytest
import torch
from torch import nn

from espalier.errors import RequestError, UnknownNameError
from espalier.training._optimizers import Training, build_optimizer, build_scheduler


def rates(training, steps_per_epoch=4):
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=training.lr)
    scheduler = build_scheduler(optimizer, training, steps_per_epoch)
    seen = []
    for _ in range(training.epochs * steps_per_epoch):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


@pytest.mark.parametrize(
    ("training", "kind", "expected"),
    [
        (Training(epochs=1, weight_decay=0.1), torch.optim.Adam, {"weight_decay": 0.1}),
        (Training(epochs=1, optimizer="adamw"), torch.optim.AdamW, {"weight_decay": 0.0}),
        (
            Training(epochs=1, optimizer="sgd", lr=0.3),
            torch.optim.SGD,
            {"momentum": 0.9, "lr": 0.3},
        ),
    ],
)
def test_optimizers_are_built_as_asked(training, kind, expected):
    optimizer = build_optimizer(nn.Linear(2, 2).parameters(), training)
    assert type(optimizer) is kind
    assert {k: optimizer.param_groups[0][k] for k in expected} == expected


def test_frozen_parameters_are_left_out():
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    (group,) = build_optimizer(model.parameters(), Training(epochs=1)).param_groups
    assert group["params"] == [model.weight]


def test_constant_is_constant():
    assert rates(Training(epochs=2, lr=0.5, schedule="constant")) == [0.5] * 8


def test_cosine_falls_from_lr_towards_zero():
    expected = [0.5 * (1 + math.cos(math.pi * t / 8)) for t in range(8)]
    assert rates(Training(epochs=2, lr=1.0)) == pytest.approx(expected)


def test_step_falls_at_its_milestones():
    training = Training(epochs=4, lr=1.0, schedule="step", milestones=(0.5, 0.75), gamma=0.1)
    assert rates(training, 2) == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step"])
def test_warm_up_rises_linearly_to_lr(schedule):
    training = Training(epochs=4, lr=1.0, schedule=schedule, warmup=1)
    assert rates(training)[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_rules_of_ones_own_are_taken():
    class Lion:
        def over(self, parameters, lr):
            return torch.optim.Rprop(parameters, lr=lr)

    class Halving:
        def over(self, optimizer, epochs, steps_per_epoch):
            return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)

    training = Training(epochs=1, lr=1.0, optimizer=Lion(), schedule=Halving())
    assert type(build_optimizer(nn.Linear(1, 1).parameters(), training)) is torch.optim.Rprop
    assert rates(training, 3) == [1.0, 0.5, 0.25]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"epochs": -1}, "epochs=-1; give epochs >= 0"), ({"lr": 0.0}, "lr=0.0; give lr > 0"),
     ({"lr": math.nan}, "lr=nan"), ({"momentum": 1.0}, "momentum=1.0; give 0 <= momentum < 1"),
     ({"weight_decay": -1.0}, "weight_decay"), ({"warmup": -1.0}, "warmup"),
     ({"milestones": (0.5, 1.5)}, "milestones"), ({"gamma": 0.0}, "gamma=0.0"),
     ({"clip": -1.0}, "clip=-1.0"), ({"evaluate_every": 0}, "evaluate_every=0")],
)  # fmt: skip
def test_numbers_out_of_range_are_refused_with_what_is_allowed(wrong, words):
    with pytest.raises(RequestError, match=words):
        Training(**{"epochs": 1, **wrong})


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'adamw'"):
        Training(epochs=1, optimizer="adamm_w")
    with pytest.raises(UnknownNameError, match="did you mean 'cosine'"):
        Training(epochs=1, schedule="cosin")
