"""Optimisers and schedules are torch's, with the numbers of the recipe."""

import pytest
import torch

from espalier.errors import RecipeError
from espalier.recipe import validate
from espalier.recipe._optimising import SGD, AdamW, Cosine, Flat, Milestones, Step

PARAMETERS = [torch.nn.Parameter(torch.zeros(2))]


def test_numbers_reach_torch():
    made = AdamW(beta1=0.8, weight_decay=0.1).over(PARAMETERS, lr=0.3)
    group = made.param_groups[0]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.3, (0.8, 0.999), 0.1)
    assert SGD(momentum=0.5, nesterov=True).over(PARAMETERS, 0.1).param_groups[0]["nesterov"]


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        (Flat(), [1, 1, 1, 1]),
        (Cosine(), [1, 0.853553, 0.5, 0.146447]),
        (Cosine(floor=0.5), [1, 0.926777, 0.75, 0.573223]),
        (Step(every=2), [1, 1, 0.1, 0.1]),
        (Milestones(at=[1, 3], factor_each=0.5), [1, 0.5, 0.5, 0.25]),
        (Flat(warmup=2.0), [1e-3, 0.5, 1, 1]),
    ],
)
def test_schedules_by_epoch(schedule, factors):
    assert [schedule.factor(epoch, 4) for epoch in range(4)] == pytest.approx(factors, abs=1e-6)


def test_the_schedule_moves_at_every_step():
    optimizer = SGD().over(PARAMETERS, 1.0)
    scheduler = Cosine().over(optimizer, epochs=2, steps_per_epoch=2)
    seen = []
    for _ in range(4):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert seen == pytest.approx([1, 0.853553, 0.5, 0.146447], abs=1e-6)


def test_milestones_are_a_list():
    base = {"model": "lenet5", "data": "digits", "plan": {"density": 0.1}}
    with pytest.raises(
        RecipeError, match=r"training\.schedule\.milestones\.at: 3 should be a valid list"
    ):
        validate({**base, "training": {"epochs": 2, "schedule": {"milestones": {"at": 3}}}})
