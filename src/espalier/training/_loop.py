"""The training loop, once: dense training, pruning by any method, and masked retraining.

They differ in the handle alone: without one this is dense training; with one it prunes; with one that has
hard-pruned it retrains with the zeros held.
"""

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from espalier._ground.events import Event, OnEvent
from espalier._ground.world import ALONE, World
from espalier.errors import RequestError
from espalier.methods import Handle
from espalier.tasks import Task
from espalier.training._checkpoint import Parts, Saver, read_checkpoint, restore_
from espalier.training._checks import check_loss, check_phase, check_settings
from espalier.training._evaluation import Metrics, evaluate_now
from espalier.training._journal import Journal
from espalier.training._place import Progress
from espalier.training._step import train_step


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """How a phase of training went.

    Attributes:
        phase: Its name.
        epochs: Epochs trained.
        steps: Optimiser steps trained.
        gradients: Gradients computed for them: one a step, two where it is sharpness-aware.
        stopped: ``"epochs"`` (all were done) or ``"goal"``.
        metrics: Of the model as it is, at the last evaluation; None if there was none.
        hard_pruned: Of the model as if cut; None without pruning.
        hard_pruned_bn: Likewise, BatchNorm re-estimated; None without BatchNorm.
        seconds: Wall-clock time of the phase, summed over resumes.
        step_seconds: Wall-clock time a training step, data included, evaluation not.
        history: The ``epoch`` events.
    """

    phase: str
    epochs: int
    steps: int
    gradients: int
    stopped: str
    metrics: Metrics | None
    hard_pruned: Metrics | None
    hard_pruned_bn: Metrics | None
    seconds: float
    step_seconds: float
    history: tuple[Event, ...]


def fit(
    model: nn.Module,
    task: Task,
    pruning: Handle | None = None,
    *,
    optimizer: Optimizer | None = None,
    epochs: int,
    phase: str = "prune",
    scheduler: LRScheduler | None = None,
    evaluate_every: int = 1,
    goal: float | None = None,
    clip: float | None = None,
    sam: float = 0.0,
    autocast: torch.dtype | None = None,
    run: Journal | None = None,
    snapshots: Mapping[int, str] | None = None,
    checkpoint_every: int | None = None,
    checkpoint_seconds: float = 30.0,
    on_event: OnEvent | None = None,
    world: World = ALONE,
) -> FitResult:
    """Train ``model`` on ``task``, pulled towards its plan by ``pruning``.

    Args:
        model: Trained in place, in train mode.
        task: Loss, batches and evaluation.
        pruning: The handle of a method, such as a ``Pruning``; None for dense training. After
            ``hard_prune_()`` its zeros are held.
        optimizer: Over the model's parameters; None: the handle's own.
        epochs: Passes over the task's batches, >= 0.
        phase: The name of this call in events and checkpoints; one call per name in a run.
        scheduler: Stepped after every optimiser step, not every epoch.
        evaluate_every: Epochs between two evaluations, >= 1; the last epoch is always evaluated.
        goal: Stop at the first evaluation whose ``task.goal`` is as good as this: that of the
            model hard-pruned, with BatchNorm re-estimated if it has any; that of the model itself
            if nothing is left to cut.
        clip: Largest Euclidean norm of the gradient of the *data* loss, over all parameters. The
            pull is added afterwards: it is exact, has no noise to guard against, and clipped
            together with the data it would weaken just when the data gradient is large.
        sam: Radius of sharpness-aware steps, >= 0; 0: plain ones. Each takes two gradients.
        autocast: Compute the loss in this type, ``torch.bfloat16``; weights stay as they are.
        run: Where events and checkpoints go. If its last checkpoint is of this ``phase``, training
            goes on from there, to the same bytes on a CPU as if it had never been interrupted.
        snapshots: By number of steps in this phase, the file in ``run`` that gets the model's state
            then: what a later phase rewinds to.
        checkpoint_every: Steps between two checkpoints.
        checkpoint_seconds: Seconds after which one is written in any case.
        on_event: Called with every event as it happens, and about ten times a second with
            ``{"event": "step", …}``, which is in no file.
        world: The ranks that train one model together: each computes a part of every batch and has a ``run`` of
            its own, or none. All call this with models of the same weights, and all come to the same.

    Returns:
        The metrics at the end and how they came about.

    Raises:
        RequestError: An argument outside the range stated above.
        NonFiniteError: The loss became NaN or infinite; the last good checkpoint is kept.
        CheckpointError: The run's checkpoints cannot be read, or are of something else.
        RunFolderError: The disk is full.
    """
    check_settings(epochs, evaluate_every, clip, sam, autocast, checkpoint_every)
    optimizer = optimizer if pruning is None or optimizer is not None else pruning.optimizer
    if optimizer is None:
        raise RequestError("no optimizer; give optimizer=, or a handle that has one")
    parts = Parts(model=model, optimizer=optimizer, scheduler=scheduler, pruning=pruning)
    saver = Saver(run, parts, checkpoint_every, checkpoint_seconds)
    device = next(model.parameters()).device
    cast = torch.autocast(device.type, autocast) if autocast is not None else nullcontext()
    steps = epochs * task.steps_per_epoch
    history: list[Event] = []
    last_tick = began = time.monotonic()

    def snapshot() -> None:
        if run is not None and snapshots and progress.steps in snapshots:
            run.write_weights(snapshots[progress.steps], model.state_dict())

    def emit(event: Event) -> None:
        event = {**event, "time": round(time.monotonic() - began, 3)}
        event = run.append(event) if run is not None else event
        if event["event"] == "epoch":
            history.append(event)
        if on_event is not None:
            on_event(event)

    # Begin, or go on from the run's last checkpoint.
    found = read_checkpoint(run) if run is not None else None
    if run is not None and found is not None and found[0]["progress"]["phase"] == phase:
        progress = restore_(run, parts, found[0], task.steps_per_epoch)
        events = (event for event in run.events() if event["event"] == "epoch")
        history += [event for event in events if event["phase"] == phase]
        finished = bool(progress.stopped)
        if not finished:
            event = {"event": "resumed", "phase": phase, "step": progress.steps, "epochs": epochs}
            emit({**event, "steps": steps, **({"remark": found[1]} if found[1] else {})})
    else:
        finished = False
        progress = Progress(phase=phase, steps_per_epoch=task.steps_per_epoch)
        # A checkpoint is written before the first step, so that from here on a kill loses nothing that
        # stood before this phase: another phase's last checkpoint is not needed any more.
        if run is not None and found is None:
            run.rewind(0, 0.0)  # what a run that was killed before its first checkpoint left
        elif run is not None and found is not None:
            check_phase(run, found[0]["progress"], phase)
        emit({"event": "phase", "phase": phase, "epochs": epochs, "steps": steps})
        snapshot()  # before the checkpoint: a resume from it takes step 0 as done
        saver.save(progress)
    if run is not None:
        run.phase = phase
    spent = progress.seconds
    # Summed where the loss lives: reading it at every step would wait for the device.
    loss_sum: Tensor | float = progress.loss_sum
    updates_seen = len(pruning.updates) if pruning is not None else 0

    while progress.epoch < epochs and not progress.stopped:
        model.train()
        ticked = time.monotonic()
        for batch in task.batches(progress.epoch, start=progress.step):
            progress.lr = float(optimizer.param_groups[0]["lr"])
            # On a GPU, reading the loss would synchronise: there it is looked at now and then.
            look = device.type == "cpu" or progress.step % 20 == 0
            check = partial(check_loss, progress=progress, run=run) if look else None
            loss = train_step(
                model,
                task,
                batch,
                optimizer,
                pruning,
                cast=cast,
                clip=clip,
                sam=sam,
                check=check,
                world=world,
            )
            if scheduler is not None:
                scheduler.step()
            loss_sum = loss_sum + loss.double()
            progress.step += 1
            snapshot()

            # After the step is counted: a checkpoint taken now must hold the events of its own updates.
            if pruning is not None and len(pruning.updates) > updates_seen:
                for update in pruning.updates[updates_seen:]:
                    emit({**update.event(), "phase": phase})
                updates_seen = len(pruning.updates)
            now = time.monotonic()
            progress.epoch_seconds += now - ticked
            ticked = now
            if saver.due(progress):
                check_loss(loss, progress, run)
                progress.loss_sum, progress.seconds = float(loss_sum), spent + now - began
                saver.save(progress)
                ticked = time.monotonic()  # the time it took to save is not training
            if on_event is not None and now - last_tick >= 0.1:
                last_tick = now
                on_event({"event": "step", "phase": phase, "step": progress.steps})

        # The one reading that an epoch makes in any case; on a GPU it also ends the timing honestly.
        mean_loss = float(loss_sum) / progress.steps_per_epoch
        check_loss(mean_loss, progress, run)
        progress.epoch_seconds += time.monotonic() - ticked
        metrics = hard = hard_bn = None
        if (progress.epoch + 1) % evaluate_every == 0 or progress.epoch + 1 == epochs:
            # Every rank evaluates, and rank 0's figures count: a last bit may differ between machines.
            metrics, hard, hard_bn, figure = world.agree(evaluate_now(model, task, pruning))
            if pruning is not None:
                pruning.evaluated(metrics.get(task.goal.name), task.goal)
            if goal is not None and task.goal.reached(figure[task.goal.name], goal):
                progress.stopped = "goal"
        seconds = progress.epoch_seconds
        progress.train_seconds += seconds
        progress.epoch, progress.step = progress.epoch + 1, 0
        progress.epoch_seconds, progress.loss_sum, loss_sum = 0.0, 0.0, 0.0
        emit(
            {"event": "epoch", "phase": phase, "epoch": progress.epoch, "step": progress.steps,
             "loss": mean_loss, "lr": progress.lr, "seconds": round(seconds, 4),
             "metrics": metrics, "hard_pruned": hard, "hard_pruned_bn": hard_bn}
        )  # fmt: skip

    if not finished:
        progress.stopped = progress.stopped or "epochs"
        progress.seconds = spent + time.monotonic() - began
        saver.save(progress)
    evaluated = [event for event in history if event["metrics"] is not None]
    last = evaluated[-1] if evaluated else {}
    return FitResult(
        phase=phase,
        epochs=progress.epoch,
        steps=progress.steps,
        gradients=progress.steps * (2 if sam else 1),
        stopped=progress.stopped,
        metrics=last.get("metrics"),
        hard_pruned=last.get("hard_pruned"),
        hard_pruned_bn=last.get("hard_pruned_bn"),
        seconds=progress.seconds,
        step_seconds=progress.train_seconds / max(1, progress.steps),
        history=tuple(history),
    )
