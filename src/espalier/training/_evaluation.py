"""What the model is worth now, and what it would be worth if it were cut now."""

from collections.abc import Callable
from itertools import islice

import torch
from torch import nn

from espalier._ground.modes import evaluating
from espalier.methods import Handle
from espalier.tasks import Task
from espalier.training._batchnorm import batchnorms, reestimated

Metrics = dict[str, float]

CALIBRATION_BATCHES = 50
"""Of the training inputs, to re-estimate BatchNorm: enough for a mean, and soon done."""


def evaluate_cut(model: nn.Module, task: Task, pruning: Handle) -> tuple[Metrics, Metrics | None]:
    """The metrics if the model were cut now, without and with BatchNorm re-estimated.

    Weights and BatchNorm statistics are afterwards what they were, bit for bit. The second is
    None for a model without BatchNorm.
    """
    with pruning.hard_pruned():
        hard = task.evaluate(model)
        if not batchnorms(model):
            return hard, None
        with reestimated(model, task.inputs("train", CALIBRATION_BATCHES)):
            return hard, task.evaluate(model)


def evaluate_now(
    model: nn.Module, task: Task, pruning: Handle | None
) -> tuple[Metrics, Metrics | None, Metrics | None, Metrics]:
    """The metrics as it is, cut, cut with BatchNorm re-estimated, and those a goal looks at."""
    if pruning is None:
        metrics = task.evaluate(model)
        return metrics, None, None, metrics
    metrics = task.evaluate(pruning.trained())
    hard, hard_bn = evaluate_cut(model, task, pruning)
    return metrics, hard, hard_bn, metrics if pruning.nothing_to_cut() else hard_bn or hard


def probe_of(model: nn.Module, task: Task) -> Callable[[], float]:
    """F of SLR's condition (3) on a fixed batch: the first of epoch 0, in eval mode."""
    (batch,) = islice(task.batches(0), 1)

    @torch.no_grad()
    def probe() -> float:
        with evaluating(model):
            return float(task.loss(model, batch))

    return probe
