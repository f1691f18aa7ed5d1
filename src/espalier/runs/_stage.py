"""A run is a list of stages, each of which starts somewhere, trains somehow, and may end with a cut."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from torch import nn

from espalier.errors import RequestError
from espalier.methods import Method
from espalier.runs._folder import RunFolder
from espalier.sets import Constraint
from espalier.tasks import Task
from espalier.training import Training


@dataclass(frozen=True)
class Continue:
    """Start with what the stage before left."""


@dataclass(frozen=True)
class Rewind:
    """Start with the weights and buffers that an earlier stage had after ``step`` steps; what is held stays zero.

    Source: Frankle & Carbin 2019 (step 0); Frankle et al. 2020, "Linear Mode Connectivity and the Lottery
    Ticket Hypothesis" (a later one).
    """

    stage: str
    step: int = 0

    @property
    def file(self) -> str:
        """Where a run keeps them."""
        return f"{self.stage}-step{self.step}.safetensors"


@dataclass(frozen=True)
class Redraw:
    """Start with newly drawn weights: the control that says what rewinding is worth."""

    seed: int


@dataclass(frozen=True)
class Load:
    """Start with the weights in a safetensors file."""

    path: Path


Start = Continue | Rewind | Redraw | Load


class Aim(Protocol):
    """How a stage comes by its constraint: decided once, from the weights of that moment, and kept in the run."""

    def preview(self, model: nn.Module) -> Constraint | None:
        """What it would be for the weights as they are now, to rehearse the stage with; None: not known."""
        ...

    def decide(self, run: RunFolder, model: nn.Module, task: Task) -> Constraint:
        """Decide, and write into the run what :meth:`recall` needs."""
        ...

    def recall(self, run: RunFolder, model: nn.Module) -> Constraint:
        """The constraint of a run that is taken up again."""
        ...


Figure = Literal["hard_pruned", "retrained", "quantised"]
"""Under which of the result's names the figures of a stage stand."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a run.

    Attributes:
        name: Of its events and checkpoints; one stage per name in a run.
        training: How it trains.
        method: How the weights get into the constraint; None: they train with what earlier stages hold.
        aim: Where its constraint comes from; None: that of the stage before.
        start: With which weights it begins.
        cut: Whether it ends with a cut: the weights are put where they may be, and what is not free is held.
        goal: Stop at the first evaluation that is as good; leave the stage out if the last cut was.
        figure: Under which name of the result its figures stand; None: among the stages alone.
        title: What tables call its method; None: the method's own title.
    """

    name: str
    training: Training
    method: Method | None = None
    aim: Aim | None = None
    start: Start = field(default_factory=Continue)
    cut: bool = False
    goal: float | None = None
    figure: Figure | None = None
    title: str | None = None

    @property
    def label(self) -> str | None:
        """What tables call its method; None for plain training."""
        return self.title or (None if self.method is None else self.method.label)


def check_stages(stages: Sequence[Stage], steps_per_epoch: int | None = None) -> None:
    """Refuse a list that cannot be run.

    Args:
        stages: In order.
        steps_per_epoch: Of the task; without it the steps rewound to are not looked at.

    Raises:
        RequestError: No stages, two of one name, a stage that rewinds to one that is not before it or to a
            step it does not have, a method without a constraint.
    """
    if not stages:
        raise RequestError("a run needs at least one stage")
    before: dict[str, Stage] = {}
    aimed = False
    for stage in stages:
        if stage.name in before:
            raise RequestError(f"two stages are called {stage.name!r}; give each its own name")
        aimed = aimed or stage.aim is not None
        if (stage.method is not None or stage.cut) and not aimed:
            raise RequestError(
                f"stage {stage.name!r}: nothing says what the weights may be; give a plan"
            )
        if isinstance(stage.start, Rewind) and stage.start.stage not in before:
            known = ", ".join(before) or "none"
            raise RequestError(
                f"stage {stage.name!r} rewinds to {stage.start.stage!r}, which is no stage before it "
                f"({known})"
            )
        if isinstance(stage.start, Rewind) and steps_per_epoch is not None:
            _check_step(stage.name, stage.start, before[stage.start.stage], steps_per_epoch)
        before[stage.name] = stage


def _check_step(name: str, start: Rewind, to: Stage, steps_per_epoch: int) -> None:
    steps = to.training.epochs * steps_per_epoch
    if not 0 <= start.step <= steps:
        raise RequestError(
            f"stage {name!r} rewinds to step {start.step} of {start.stage!r}, which trains {steps} "
            f"steps; give a step from 0 to {steps}"
        )


def snapshots_of(stages: Sequence[Stage], name: str) -> dict[int, str]:
    """By step of a stage, the files that later stages rewind to."""
    starts = [stage.start for stage in stages]
    return {s.step: s.file for s in starts if isinstance(s, Rewind) and s.stage == name}
