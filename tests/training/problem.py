"""A problem small enough to train hundreds of times: 64 points, a few dozen weights."""

import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import pytest
import torch
from torch import Tensor, nn

import espalier as esp
from espalier.runs import Planned, RunOptions, run_stages, standard_stages
from espalier.tasks import Goal
from espalier.training import fit


class Points:
    """Regression-like classification of 64 random points; ``evaluate`` is exact and cheap."""

    steps_per_epoch = 8
    goal = Goal()
    model_arguments = {}  # noqa: RUF012

    def __init__(self, seed: int = 0, poison: int | None = None):
        generator = torch.Generator().manual_seed(seed)
        self.x = torch.randn(64, 6, generator=generator)
        self.y = (self.x[:, 0] * self.x[:, 1] + self.x[:, 2] > 0).long()
        self.poison = poison  # the step, counted over all epochs, at which the loss is NaN

    @property
    def example_input(self) -> Tensor:
        return self.x[:1]

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor, int]]:
        order = torch.randperm(64, generator=torch.Generator().manual_seed(100 + epoch))
        for step in range(start, 8):
            rows = order[8 * step : 8 * step + 8]
            yield self.x[rows], self.y[rows], 8 * epoch + step

    def loss(self, model: nn.Module, batch) -> Tensor:
        x, y, step = batch
        loss = nn.functional.cross_entropy(model(x), y)
        return loss * float("nan") if step == self.poison else loss

    @torch.inference_mode()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        training = model.training
        model.eval()
        logits = model(self.x)
        model.train(training)
        right = (logits.argmax(dim=1) == self.y).double().mean()
        return {
            "accuracy": right.item(),
            "loss": nn.functional.cross_entropy(logits, self.y).item(),
        }

    def inputs(self, part: str = "train", limit: int | None = None) -> Iterator[Tensor]:
        return (batch[0] for batch in islice(self.batches(0), limit))

    def guard(self, limit: int | None = None):
        return lambda model: self.evaluate(model)["accuracy"]


def network(batchnorm: bool = True, dropout: float = 0.2) -> nn.Module:
    """Dropout makes the random state matter, BatchNorm the buffers."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Linear(6, 16), nn.BatchNorm1d(16) if batchnorm else nn.Identity(), nn.ReLU(),
        nn.Dropout(dropout), nn.Linear(16, 2),
    )  # fmt: skip


def plan_for(model: nn.Module, density: float = 0.25) -> esp.Plan:
    return esp.plan(model, density=density)


def optimizer_for(model: nn.Module, name: str) -> torch.optim.Optimizer:
    makers = {
        "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-3),
        "nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
        "adam": lambda p: torch.optim.Adam(p, lr=0.01),
        "amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True, weight_decay=1e-3),
        "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
        "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5),
    }
    return makers[name](model.parameters())


def scheduler_for(optimizer: torch.optim.Optimizer, name: str | None, steps: int):
    lr = torch.optim.lr_scheduler
    if name is None:
        return None
    if name == "cosine":
        return lr.CosineAnnealingLR(optimizer, steps)
    if name == "onecycle":
        return lr.OneCycleLR(optimizer, max_lr=0.02, total_steps=steps)
    warm = lr.LinearLR(optimizer, 0.1, total_iters=5)
    return lr.SequentialLR(optimizer, [warm, lr.ExponentialLR(optimizer, 0.97)], milestones=[5])


def weights_of(model: nn.Module) -> dict[str, bytes]:
    return {k: v.detach().numpy().tobytes() for k, v in model.state_dict().items()}


def pruned_fit(task=None, epochs=4, model=None, solver=None, optimizer="adam", **arguments):
    model = model or network()
    optimizer = optimizer_for(model, optimizer)
    pruning = esp.Pruning(
        model,
        plan_for(model),
        solver or esp.Constrained(solver=esp.SLR(), cadence=5, settle=None),
        optimizer,
        steps=8 * epochs or None,
    )
    result = fit(model, task or Points(), pruning, optimizer=optimizer, epochs=epochs, **arguments)
    return model, pruning, result


def timeless(result):
    """A result without what the clock says."""
    content = result.to_dict()
    for stage in content["stages"]:
        del stage["seconds"], stage["step_seconds"]
    return {k: v for k, v in content.items() if "seconds" not in k}


def prune_run(model, task, plan, method, *, folder, probe=False, resume=False, **given):
    """The usual stages, run into a folder."""
    kept = {k: given.pop(k) for k in ("config", "checkpoint_every", "on_event") if k in given}
    seed = given.pop("run_seed", 0)
    stages = standard_stages(Planned(plan), method, **given)
    return run_stages(
        model,
        task,
        stages,
        folder,
        seed=seed,
        probe=probe,
        resume=resume,
        options=RunOptions(**kept),
    )


class StopHereError(Exception):
    """What ends a run in the middle, as a kill would."""


REHEARSE = "espalier.runs._running.rehearse"


@contextmanager
def stopped_at(monkeypatch, target: str, count: int):
    """The block is stopped when ``target``, a function by its dotted name, is called the count-th time."""
    place, _, name = target.rpartition(".")
    owner = pkgutil.resolve_name(place)  # a module or a class
    original, calls = getattr(owner, name), []

    def stopping(*args, **kwargs):
        calls.append(1)
        if len(calls) == count:
            raise StopHereError
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(REHEARSE, lambda *_: None)  # the calls of the run itself are counted
        patch.setattr(owner, name, stopping)
        with pytest.raises(StopHereError):
            yield
