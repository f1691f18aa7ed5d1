"""What a solver adds to a training step: measured beside dense training, in one process, in turn."""

import copy
import statistics
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import cycle
from typing import Any

import torch
from torch import nn

from espalier.methods import Constrained, Handle, Method, Setting
from espalier.recipe._building import make_training
from espalier.recipe._methods import make_method
from espalier.recipe._running import Job
from espalier.solvers import Constant
from espalier.training import build_optimizer, train_step

NEVER = 10**9


def overheads(jobs: Mapping[str, Job], rounds: int = 30, seconds: float = 10.0) -> dict[str, float]:
    r"""Step time of each method over that of dense training, updates spread over their cadence.

    .. math:: \frac{t_\text{pull} + (t_\text{update} - t_\text{pull})/\text{cadence}}{t_\text{dense}}

    Every round makes one dense step, and for each method one step that pulls and one that updates as
    well, on copies of the same model; times are medians over the rounds. A method without a cadence has
    one kind of step.

    Args:
        jobs: By label; models are copied, not trained.
        rounds: At most so many rounds.
        seconds: Stop after so long, but not before three rounds.
    """
    if not jobs:
        return {}
    first = next(iter(jobs.values()))
    methods = {
        label: make_method(job.recipe.solver, job.task.steps_per_epoch)
        for label, job in jobs.items()
    }
    trains = {label: m for label, m in methods.items() if isinstance(m, Method)}
    dense = _Stepper(first, None)
    pulling = {label: _Stepper(jobs[label], _every(m, NEVER)) for label, m in trains.items()}
    updating = {
        label: _Stepper(jobs[label], _every(m, 1))
        for label, m in trains.items()
        if isinstance(m, Constrained)
    }
    steppers = [dense, *pulling.values(), *updating.values()]
    began = time.monotonic()
    batches = cycle(first.task.batches(0))
    for _ in range(2):  # first steps allocate
        batch = next(batches)
        for stepper in steppers:
            stepper.step(batch)
    for stepper in steppers:
        stepper.times.clear()
    for done in range(rounds):
        if done >= 3 and time.monotonic() - began > seconds:
            break
        batch = next(batches)
        for stepper in steppers:
            stepper.step(batch)
    found = {}
    for label, method in trains.items():
        pull = pulling[label].median
        extra = max(0.0, updating[label].median - pull) if label in updating else 0.0
        cadence = method.cadence if isinstance(method, Constrained) else 1
        found[label] = (pull + extra / cadence) / dense.median
    return found


def _every(method: Method, cadence: int) -> Method:
    return replace(method, cadence=cadence) if isinstance(method, Constrained) else method


class _Stepper:
    """Training steps of one copy of a model, each timed: the very step that ``fit`` takes."""

    def __init__(self, job: Job, method: Method | None) -> None:
        self.job, self.model = job, copy.deepcopy(job.model)
        training = make_training(job.recipe, job.recipe.training)
        self.sam = training.sam
        self.handle: Handle | None = None
        if method is not None:
            # Of a run without end: RigL asks for one. What opens its budget is to stay on the plan's own.
            opens = isinstance(method, Constrained) and not isinstance(method.opening, Constant)
            setting = Setting(
                optimizer=lambda groups: build_optimizer(groups, training),
                steps=None if opens else NEVER,
                lr=training.lr,
                task=job.task,
            )
            self.handle = method.attach(self.model, job.plan, setting)
        optimizer = None if self.handle is None else self.handle.optimizer
        self.optimizer = optimizer or build_optimizer(self.model.parameters(), training)
        self.times: list[float] = []

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    def step(self, batch: Any) -> None:
        _wait(self.model)
        began = time.perf_counter()
        train_step(self.model, self.job.task, batch, self.optimizer, self.handle, sam=self.sam)
        _wait(self.model)
        self.times.append(time.perf_counter() - began)


def _wait(model: nn.Module) -> None:
    """Until the device has done what it was told."""
    if next(model.parameters()).is_cuda:
        torch.cuda.synchronize()
