"""What a solver adds to a training step: measured beside dense training, in one process, in turn."""

import copy
import statistics
import time
from collections.abc import Mapping
from itertools import cycle
from typing import Any

import torch
from torch import nn

from espalier.methods._pruning import Pruning
from espalier.recipe._building import make_solver, make_training
from espalier.recipe._running import Job
from espalier.training import build_optimizer

NEVER = 10**9


def overheads(jobs: Mapping[str, Job], rounds: int = 30, seconds: float = 10.0) -> dict[str, float]:
    r"""Step time of each method over that of dense training, updates spread over their cadence.

    .. math:: \frac{t_\text{pull} + (t_\text{update} - t_\text{pull})/\text{cadence}}{t_\text{dense}}

    Every round makes one dense step, and for each method one step that pulls and one that updates as
    well, on copies of the same model; times are medians over the rounds.

    Args:
        jobs: By label; models are copied, not trained.
        rounds: At most so many rounds.
        seconds: Stop after so long, but not before three rounds.
    """
    if not jobs:
        return {}
    first = next(iter(jobs.values()))
    dense = _Stepper(first, None)
    pulling = {label: _Stepper(job, NEVER) for label, job in jobs.items()}
    updating = {label: _Stepper(job, 1) for label, job in jobs.items()}
    steppers = {"dense": [dense], "pull": list(pulling.values()), "update": list(updating.values())}
    began = time.monotonic()
    batches = cycle(first.task.batches(0))
    for _ in range(2):  # first steps allocate
        batch = next(batches)
        for stepper in (s for each in steppers.values() for s in each):
            stepper.step(batch)
    for stepper in (s for each in steppers.values() for s in each):
        stepper.times.clear()
    for done in range(rounds):
        if done >= 3 and time.monotonic() - began > seconds:
            break
        batch = next(batches)
        for stepper in (s for each in steppers.values() for s in each):
            stepper.step(batch)
    found = {}
    for label, job in jobs.items():
        cadence = make_solver(job.recipe, job.task.steps_per_epoch).cadence
        pull = pulling[label].median
        update = max(0.0, updating[label].median - pull)
        found[label] = (pull + update / cadence) / dense.median
    return found


class _Stepper:
    """Training steps of one copy of a model, each timed."""

    def __init__(self, job: Job, cadence: int | None) -> None:
        self.job, self.model = job, copy.deepcopy(job.model)
        self.optimizer = build_optimizer(
            self.model.parameters(), make_training(job.recipe, job.recipe.training)
        )
        self.pruning: Pruning | None = None
        self.times: list[float] = []
        if cadence is not None:
            solver = job.recipe.solver.build(cadence=cadence)
            self.pruning = Pruning(self.model, job.plan, solver, optimizer=self.optimizer)

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    def step(self, batch: Any) -> None:
        _wait(self.model)
        began = time.perf_counter()
        self.optimizer.zero_grad()
        loss = self.job.task.loss(self.model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.pruning is not None:
            self.pruning.add_gradients_()
        self.optimizer.step()
        if self.pruning is not None:
            self.pruning.step(loss)
        _wait(self.model)
        self.times.append(time.perf_counter() - began)


def _wait(model: nn.Module) -> None:
    """Until the device has done what it was told."""
    if next(model.parameters()).is_cuda:
        torch.cuda.synchronize()
