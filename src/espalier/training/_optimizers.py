"""Training settings, and the torch optimisers and learning-rate schedules they stand for."""

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from espalier.errors import RequestError, UnknownNameError, nearest
from espalier.methods import Groups

OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine", "step")


@runtime_checkable
class OptimizerRule(Protocol):
    """Any other optimiser: how to make it."""

    def over(self, parameters: Any, lr: float) -> Optimizer:
        """The optimiser of these parameters, or groups of them, at learning rate ``lr``."""


@runtime_checkable
class ScheduleRule(Protocol):
    """Any other learning-rate schedule: how to make it."""

    def over(self, optimizer: Optimizer, epochs: int, steps_per_epoch: int) -> LRScheduler:
        """The scheduler, to be stepped after every optimiser step."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How to train in one phase. Batches are the task's.

    Args:
        epochs: Passes over the task's batches, >= 0.
        lr: Peak learning rate, > 0.
        optimizer: ``"adam"``, ``"adamw"``, ``"sgd"``, or something that makes one.
        momentum: Of ``"sgd"``, in [0, 1).
        weight_decay: Coefficient >= 0; decoupled for ``"adamw"``, else part of the gradient.
        schedule: ``"constant"``; ``"cosine"``, to zero over the phase; ``"step"``; or something
            that makes one.
        warmup: Epochs over which the rate rises linearly to ``lr`` first, >= 0.
        milestones: For ``"step"``: fractions of the phase after which the rate falls by ``gamma``.
        gamma: For ``"step"``: what each fall leaves, in (0, 1].
        clip: Largest norm of the data gradient; None for any.
        sam: Radius >= 0 of sharpness-aware steps (Foret et al. 2021), which take two gradients each; 0: plain ones.
        autocast: Whether to compute the loss in bfloat16.
        evaluate_every: Epochs between two evaluations, >= 1.

    Raises:
        RequestError: A number outside the range stated above.
        UnknownNameError: No optimiser or schedule of that name.

    Example:
        >>> Training(epochs=8).schedule
        'cosine'
    """

    epochs: int
    lr: float = 1e-3
    optimizer: str | OptimizerRule = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str | ScheduleRule = "cosine"
    warmup: float = 0.0
    milestones: tuple[float, ...] = (0.5, 0.75)
    gamma: float = 0.1
    clip: float | None = None
    sam: float = 0.0
    autocast: bool = False
    evaluate_every: int = 1

    def __post_init__(self) -> None:
        ranges = {
            "epochs >= 0": self.epochs >= 0,
            "lr > 0": 0 < self.lr < math.inf,
            "0 <= momentum < 1": 0 <= self.momentum < 1,
            "weight_decay >= 0": 0 <= self.weight_decay < math.inf,
            "warmup >= 0": 0 <= self.warmup < math.inf,
            "0 <= milestones <= 1": all(0 <= at <= 1 for at in self.milestones),
            "0 < gamma <= 1": 0 < self.gamma <= 1,
            "sam >= 0": 0 <= self.sam < math.inf,
            "clip > 0": self.clip is None or self.clip > 0,
            "evaluate_every >= 1": self.evaluate_every >= 1,
        }
        for allowed, holds in ranges.items():
            if not holds:
                name = next(word for word in allowed.split() if hasattr(self, word))
                raise RequestError(f"{name}={getattr(self, name)}; give {allowed}")
        for kind, names in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            value = getattr(self, kind)
            if isinstance(value, str) and value not in names:
                raise UnknownNameError(f"no {kind} is named {value!r}; {nearest(value, names)}")


def build_optimizer(parameters: Groups, training: Training) -> Optimizer:
    """The torch optimiser that ``training`` asks for.

    Args:
        parameters: What it moves, or groups of it with settings of their own; those that require no
            gradient are left out.
        training: The settings.
    """
    free: list[Any] = []
    for one in parameters:
        if isinstance(one, dict):
            free.append({**one, "params": [p for p in one["params"] if p.requires_grad]})
        elif one.requires_grad:
            free.append(one)
    rule, lr, decay = training.optimizer, training.lr, training.weight_decay
    if isinstance(rule, OptimizerRule):
        return rule.over(free, lr)
    if rule == "sgd":
        return SGD(free, lr=lr, momentum=training.momentum, weight_decay=decay, foreach=True)
    if rule == "adamw":
        return AdamW(free, lr=lr, weight_decay=decay, foreach=True)
    return Adam(free, lr=lr, weight_decay=decay, foreach=True)


def build_scheduler(optimizer: Optimizer, training: Training, steps_per_epoch: int) -> LRScheduler:
    """The torch scheduler that ``training`` asks for, to be stepped after every optimiser step.

    Args:
        optimizer: Whose learning rates it sets.
        training: The settings.
        steps_per_epoch: The task's.
    """
    rule = training.schedule
    if isinstance(rule, ScheduleRule):
        return rule.over(optimizer, training.epochs, steps_per_epoch)
    return LambdaLR(optimizer, lambda step: factor(training, step, steps_per_epoch))


def factor(training: Training, step: int, steps_per_epoch: int) -> float:
    r"""The fraction of ``lr`` at a step of the phase, for the schedules that have names.

    With T steps in the phase, of which the first V are warm-up:

    .. math:: \frac{t+1}{V} \;(t < V), \qquad
              \tfrac12\bigl(1 + \cos \pi \tfrac{t - V}{T - V}\bigr) \text{ (cosine)}, \qquad
              \gamma^{\#\{m \,:\, t \ge m T\}} \text{ (step)}, \qquad 1 \text{ (constant)}

    Args:
        training: The settings.
        step: t, optimiser steps done in this phase.
        steps_per_epoch: The task's.

    Example:
        >>> [factor(Training(epochs=2, warmup=1), t, 4) for t in (0, 3, 4, 6, 8)]
        [0.25, 1.0, 1.0, 0.5, 0.0]
    """
    total = training.epochs * steps_per_epoch
    warm = round(training.warmup * steps_per_epoch)
    if step < warm:
        return (step + 1) / warm
    if training.schedule == "step":
        return training.gamma ** sum(step >= round(at * total) for at in training.milestones)
    if training.schedule == "cosine":
        along = min(1.0, (step - warm) / max(1, total - warm))
        return 0.5 * (1.0 + math.cos(math.pi * along))
    return 1.0


def autocast_dtype(training: Training) -> torch.dtype | None:
    """What ``fit`` takes for ``autocast``."""
    return torch.bfloat16 if training.autocast else None
