"""Checkpoints: everything that the rest of a run depends on, so that resuming it is exact.

Model with all its buffers, optimiser, scheduler, pruning, the random states of torch, CUDA, Python
and NumPy, and where the loop was. ``checkpoint.safetensors`` is the last, ``previous.safetensors``
the one before it.
"""

import logging
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from espalier._ground.tree import Tree, load_tree, onto
from espalier.errors import CheckpointError
from espalier.methods import Handle
from espalier.training._checks import check_weights
from espalier.training._journal import Journal
from espalier.training._place import Progress

LAST, PREVIOUS = "checkpoint.safetensors", "previous.safetensors"

_log = logging.getLogger("espalier")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a training loop changes."""

    model: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler | None
    pruning: Handle | None


class _Shape(BaseModel):
    progress: Progress
    parts: dict[str, Any]
    random: dict[str, Any]
    notes: dict[str, Any]
    events: int
    time: float


class Saver:
    """Writes checkpoints of ``parts`` into ``run``, when they are due.

    Args:
        run: Where to; None writes nothing.
        parts: What to.
        steps: Optimiser steps between two checkpoints; None for no such rule.
        seconds: Seconds after which one is due in any case.
    """

    def __init__(
        self, run: Journal | None, parts: Parts, steps: int | None, seconds: float
    ) -> None:
        self._run, self._parts, self._steps, self._seconds = run, parts, steps, seconds
        self._last = time.monotonic()

    def due(self, progress: Progress) -> bool:
        """Whether a checkpoint is to be written now."""
        if self._run is None:
            return False
        late = time.monotonic() - self._last >= self._seconds
        return late or (self._steps is not None and progress.steps % self._steps == 0)

    def save(self, progress: Progress) -> None:
        """Write one, and keep the one before.

        Raises:
            NonFiniteError: A weight is NaN or infinite: such a state is not worth going back to.
            RunFolderError: The disk is full; both older checkpoints are untouched.
        """
        if self._run is None:
            return
        check_weights(self._parts.model, progress.steps, progress.phase)
        tree = {
            "progress": asdict(progress),
            "parts": _capture(self._parts),
            "random": _random_state(),
            "notes": self._run.notes,
            "identity": self._run.identity,
            "events": self._run.count,
            "time": self._run.seconds,
        }
        self._run.write_checkpoint(LAST, tree, former=PREVIOUS)
        self._last = time.monotonic()


def read_checkpoint(run: Journal) -> tuple[Tree, str] | None:
    """The last checkpoint that can be read, and a remark if it is not the last one written.

    None if none was ever written.

    Raises:
        CheckpointError: There are checkpoints and none can be read.
    """
    last, previous = run / LAST, run / PREVIOUS
    if not last.exists() and not previous.exists():
        return None
    try:
        return _load(last), ""
    except CheckpointError as broken:
        if not previous.exists():
            raise CheckpointError(
                f"{broken}, or begin anew in another folder; there is no {PREVIOUS} to go on from"
            ) from broken
        remark = f"{broken}. Going on from {PREVIOUS}, the one before"
        try:
            tree = _load(previous)
        except CheckpointError as error:
            raise CheckpointError(f"{broken}. {error}, or begin anew in another folder") from error
    _log.warning(remark)
    return tree, remark


def restore_(run: Journal, parts: Parts, tree: Tree, steps_per_epoch: int) -> Progress:
    """Put everything back as it was when ``tree`` was saved, the run's events included.

    Raises:
        CheckpointError: The checkpoint is of another model, optimiser or task.
    """
    try:
        progress = _Shape.model_validate(tree).progress
        if progress.steps_per_epoch != steps_per_epoch:
            raise CheckpointError(
                f"{run.path}: its checkpoint was written with {progress.steps_per_epoch} steps an "
                f"epoch and now there are {steps_per_epoch}; resume with the same data and "
                f"batch size"
            )
        _apply_(parts, tree["parts"])
        _set_random_state(tree["random"])
        run.notes = tree["notes"]
        run.rewind(tree["events"], tree["time"])
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        RuntimeError,
    ) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{run.path}: its checkpoint does not fit: {error!s:.500}; resume with the model, optimizer, "
            f"scheduler and plan that the run began with"
        ) from error
    return progress


def _load(path: Path) -> Tree:
    """A checkpoint whose outermost parts are what they must be; the objects they are for check the rest."""
    tree = load_tree(path)
    try:
        _Shape.model_validate(tree)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise CheckpointError(
            f"{path}: not a checkpoint of a run: {place[:80]}: {first['msg']}; restore it from a copy"
        ) from None
    return tree


def _capture(parts: Parts) -> dict[str, Tree]:
    optional = {"scheduler": parts.scheduler, "pruning": parts.pruning}
    return {
        "model": parts.model.state_dict(),
        "buffers": _unsaved_buffers(parts.model),
        "optimizer": parts.optimizer.state_dict(),
        "optimizer_kind": type(parts.optimizer).__name__,
        **{name: part and part.state_dict() for name, part in optional.items()},
    }


@torch.no_grad()
def _apply_(parts: Parts, saved: Mapping[str, Any]) -> None:
    kind, now = saved["optimizer_kind"], type(parts.optimizer).__name__
    if kind != now:  # torch would hand one's state to the other without a word
        raise CheckpointError(f"the checkpoint is of {kind} and the optimizer is {now}; use {kind}")
    parts.model.load_state_dict(saved["model"])
    for name, buffer in _unsaved_buffers(parts.model).items():
        buffer.copy_(saved["buffers"][name])
    parts.optimizer.load_state_dict(saved["optimizer"])
    for name, part in (("scheduler", parts.scheduler), ("pruning", parts.pruning)):
        if (part is None) != (saved[name] is None):
            has = "no" if saved[name] is None else "a"
            raise CheckpointError(f"the checkpoint has {has} {name}; resume with the same")
    if parts.scheduler is not None:
        parts.scheduler.load_state_dict(saved["scheduler"])
    if parts.pruning is not None:
        device = next(parts.model.parameters()).device
        parts.pruning.load_state_dict(onto(saved["pruning"], device))


def _unsaved_buffers(model: nn.Module) -> dict[str, Tensor]:
    """The buffers that a model's own state dictionary leaves out."""
    saved = model.state_dict()
    return {name: buffer for name, buffer in model.named_buffers() if name not in saved}


@contextmanager
def randomness_kept() -> Iterator[None]:
    """After the block, every global random stream is where it was before."""
    before = _random_state()
    try:
        yield
    finally:
        _set_random_state(before)


def _random_state() -> dict[str, Tree]:
    numpy = np.random.get_state(legacy=False)
    key = torch.from_numpy(numpy["state"]["key"].astype(np.int64))
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
        "python": random.getstate(),
        "numpy": {**numpy, "state": {**numpy["state"], "key": key}},
    }


def _set_random_state(saved: Mapping[str, Any]) -> None:
    torch.set_rng_state(saved["torch"])
    if saved["cuda"] and torch.cuda.device_count() == len(saved["cuda"]):
        torch.cuda.set_rng_state_all(saved["cuda"])
    version, words, gauss = saved["python"]
    random.setstate((version, tuple(words), gauss))
    state = saved["numpy"]["state"]
    key = state["key"].numpy().astype(np.uint32)
    np.random.set_state({**saved["numpy"], "state": {**state, "key": key}})
