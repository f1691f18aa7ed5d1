"""A method: how weights get to where they may be. The frozen choice, and the live handle it makes.

``Method`` → ``Handle`` is to training what ``Metric`` → ``Gauge`` is to norms: a recipe names the first, a
training loop holds the second. A loop does, in this order,

    loss = f(handle.trained(), batch); loss.backward(); clip
    handle.add_gradients_()       # a pull, the gradient of a penalty
    handle.optimizer.step()
    handle.step(loss)             # counts; updates; holds what is held
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn
from torch.optim import Optimizer

from espalier._ground.registry import Family
from espalier._ground.types import Masks, Weights
from espalier.sets import Constraint
from espalier.tasks import Task

if TYPE_CHECKING:
    from espalier.methods._handle import Handle

Groups = Iterable[nn.Parameter] | Iterable[dict[str, Any]]
"""What a torch optimiser takes: parameters, or groups of them with settings of their own."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a method may know of the run it is part of.

    Attributes:
        optimizer: Makes the stage's optimiser over parameters, or over groups of them.
        steps: Planned optimiser steps; ``None``: not known.
        steps_per_epoch: Of the task; ``None``: not known.
        lr: The stage's learning rate, before its schedule.
        task: What the model is trained on; ``None`` in a loop of one's own.
        seed: Of the run; a method draws from it what it draws.
        held: Masks of zeros that earlier stages hold; they stay held.
        probe: f on one fixed batch, for surrogate condition (3); ``None``: the interval's mean loss.
        autocast: In which type the loss is computed; ``None``: as the weights are.
    """

    optimizer: Callable[[Groups], Optimizer]
    steps: int | None = None
    steps_per_epoch: int | None = None
    lr: float = 1e-3
    task: Task | None = None
    seed: int = 0
    held: Masks = field(default_factory=dict)
    probe: Callable[[], float] | None = None
    autocast: torch.dtype | None = None


@dataclass(frozen=True, kw_only=True)
class Method(Family, ABC):
    """How weights get into a constraint, as a recipe names it."""

    name: ClassVar[str]
    """What recipes and ``espalier methods`` call it."""
    title: ClassVar[str]
    """Its name in prose, as tables and reports print it."""
    sentence: ClassVar[str]
    """What it does, in a line, without formulas."""
    published_cadence: ClassVar[str | None] = None
    """``"epoch"``, ``"10 epochs"``: how often its paper updates; ``None`` where that has no meaning."""

    takes: ClassVar[frozenset[str]] = frozenset()
    """Settings of a recipe's solver that mean the same to it, so that a comparison hands them over."""

    @property
    def label(self) -> str:
        """What tables call it with these settings."""
        return self.title

    def trains_on(self, task: Task) -> Task:
        """What the loop takes its batches from: the task, or the part of it that weights may see."""
        return task

    def advice(self, steps: int | None) -> tuple[str, ...]:
        """What to say before a run of so many optimiser steps (``None``: not known) that will disappoint."""
        return ()

    @abstractmethod
    def attach(self, model: nn.Module, constraint: Constraint, setting: Setting) -> "Handle":
        """The live thing: bound to the model, with its optimiser made.

        Raises:
            RequestError: The method cannot do what the constraint or the setting asks.
        """


@dataclass(frozen=True, kw_only=True)
class Cut:
    """What the weights would become, and which of them may still move after that.

    Attributes:
        values: By parameter name; a name that is only in ``free`` keeps its value where it is free.
        free: Masks: True where a weight may move on; where False it stays at its value.
    """

    values: Weights
    free: Masks
