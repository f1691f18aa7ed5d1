"""One batch through everything that a run is going to do, before any of it is done.

A run that trains for an hour and then finds that its metric does not go with its optimiser, or that a name in
``quantise`` is no parameter's, has wasted the hour. So every stage is tried on a copy of the model: its method is
attached to the constraint that the weights of now would give, and takes one training step.
"""

import copy
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import espalier
from espalier._ground.example import call
from espalier._ground.modes import evaluating
from espalier.errors import EspalierError, RequestError
from espalier.methods import Constrained, KeepZeros, Setting
from espalier.metrics import Identity
from espalier.runs._stage import Stage
from espalier.sets import Constraint
from espalier.tasks import Task
from espalier.training import (
    autocast_dtype,
    build_optimizer,
    build_scheduler,
    randomness_kept,
    train_step,
)

_NOT_THE_USERS = tuple(str(Path(module.__file__ or "").parent) for module in (torch, espalier))


def rehearse(model: nn.Module, task: Task, stages: Sequence[Stage], seed: int = 0) -> None:
    """Try every stage on one batch. Nothing is changed: no weight, no buffer, no mode, no random stream.

    Args:
        model: It is copied; one that cannot be copied is not tried.
        task: Its first batch of each part is drawn.
        stages: In order.
        seed: Of the run.

    Raises:
        RequestError: Model, loss and data do not go together; a stage cannot be begun.
        UnknownNameError: It names a parameter that is not there.
    """
    with randomness_kept(), torch.enable_grad():
        try:
            copy.deepcopy(model)
        except (RuntimeError, TypeError, NotImplementedError):
            return
        with _blaming("the first training batch does not go through model, loss and backward"):
            (batch,) = islice(task.batches(0), 1)
            _check_loss(copy.deepcopy(model).train(), task, batch)
        with _blaming("the first test batch does not go through the model"):
            tried = copy.deepcopy(model)
            with evaluating(tried), torch.no_grad():
                call(tried, next(iter(task.inputs("test", 1))))
        constraint: Constraint | None = None
        for stage in stages:
            tried = copy.deepcopy(model)
            try:
                if stage.aim is not None:
                    constraint = stage.aim.preview(tried)
                with _blaming("its first step cannot be taken"):
                    _step(stage, tried, task, batch, constraint, seed)
                _check_metric(stage)
            except RequestError as error:
                raise type(error)(f"stage {stage.name!r}: {error}") from error


def _check_loss(model: nn.Module, task: Task, batch: Any) -> None:
    loss: Any = task.loss(model, batch)
    if not isinstance(loss, Tensor) or loss.dim():
        got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise RequestError(
            f"the loss of a batch has {got}; return a scalar, the mean over the batch"
        )
    if not loss.requires_grad:
        raise RequestError(
            "the loss of a batch has no gradient; compute it from the model's output, without detach() or no_grad()"
        )
    loss.backward()  # type: ignore[no-untyped-call]


def _step(
    stage: Stage, model: nn.Module, task: Task, batch: Any, constraint: Constraint | None, seed: int
) -> None:
    """One training step of a stage, with its own optimiser, schedule and method."""
    training, method, handle = stage.training, stage.method, None
    if method is None and stage.cut:
        method = KeepZeros()
    if method is not None and constraint is not None:
        setting = Setting(
            optimizer=lambda groups: build_optimizer(groups, training),
            steps=training.epochs * task.steps_per_epoch or None,
            steps_per_epoch=task.steps_per_epoch, lr=training.lr, task=task, seed=seed,
        )  # fmt: skip
        handle = method.attach(model, constraint, setting)
    optimizer = None if handle is None else handle.optimizer
    if optimizer is None:
        optimizer = build_optimizer(model.parameters(), training)
    if handle is None or handle.takes_schedule:
        build_scheduler(optimizer, training, task.steps_per_epoch)
    half = autocast_dtype(training)
    device = next(model.parameters()).device
    cast = nullcontext() if half is None else torch.autocast(device.type, half)
    try:
        train_step(model, task, batch, optimizer, handle, cast=cast, clip=training.clip)
    finally:
        if handle is not None:
            handle.close()


def _check_metric(stage: Stage) -> None:
    """Refuse a metric that the stage's optimiser cannot give: it would silently be the plain norm.

    Asked of a network of one weight, after one step.
    """
    if not isinstance(stage.method, Constrained):
        return
    metric, one = stage.method.metric, nn.Linear(1, 1, bias=False)
    optimizer = build_optimizer(one.parameters(), stage.training)
    gauge = metric.gauge(one, ("weight",), optimizer)
    one(torch.ones(1, 1)).sum().backward()
    assert one.weight.grad is not None
    gauge.observe({"weight": one.weight.grad})
    optimizer.step()
    known = gauge.diagonal(dict(one.named_parameters()))
    gauge.close()
    if known is None and not isinstance(metric, Identity):
        raise RequestError(
            f"the metric {type(metric).__name__} finds nothing to measure with {type(optimizer).__name__}; "
            "choose Adam or AdamW, or the metric Fisher()"
        )


@contextmanager
def _blaming(what: str) -> Iterator[None]:
    """Whatever model, loss or data raise inside becomes one sentence that says where in the user's code."""
    try:
        yield
    except EspalierError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if not frame.filename.startswith(_NOT_THE_USERS)]
        where = f" (at {own[-1].filename}, line {own[-1].lineno}, in {own[-1].name})" if own else ""
        reason = str(error).strip().split("\n", 1)[0]
        raise RequestError(
            f"{what}: {type(error).__name__}: {reason}{where}; make the model's inputs and outputs, the loss "
            "and the data agree, nothing was trained"
        ) from error
