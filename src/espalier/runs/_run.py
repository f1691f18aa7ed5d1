"""The stages of one run at work: begun, trained, cut, noted."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from espalier._ground.files import write_bytes
from espalier._ground.world import ALONE, World
from espalier.methods import Handle, KeepZeros, Setting
from espalier.planning import Plan
from espalier.runs._aims import Planned, Round
from espalier.runs._folder import RunFolder
from espalier.runs._identity import plan_written
from espalier.runs._options import RunOptions
from espalier.runs._result import Result
from espalier.runs._stage import Stage, snapshots_of
from espalier.runs._starting import left_by_cut, start_
from espalier.runs._state import RunState, check_weights, result_of, zeros_fit
from espalier.runs._taking import stage_of
from espalier.sets import Constraint
from espalier.tasks import Drawn, Task
from espalier.training import (
    CALIBRATION_BATCHES,
    FitResult,
    autocast_dtype,
    build_optimizer,
    build_scheduler,
    evaluate_cut,
    fit,
    probe_of,
    read_checkpoint,
    reestimate_,
)


class Run:
    """The stages of one run at work.

    What has to survive a kill between two checkpoints is in ``run.notes``, which every checkpoint carries:
    the records of the stages that are over, and the masks that they hold.
    """

    def __init__(
        self,
        run: RunFolder,
        model: nn.Module,
        task: Task,
        stages: Sequence[Stage],
        seed: int,
        probe: bool,
        options: RunOptions,
        world: World = ALONE,
    ) -> None:
        self.run, self.model, self.task, self.stages = run, model, task, stages
        self.seed, self.probe, self.options, self.world = seed, probe, options, world
        self.constraint: Constraint | None = None
        self.state = RunState()

    def all_stages(self) -> None:
        """From the first, or from where a checkpoint says."""
        if not getattr(self.task, "resumes_exactly", True) and self.options.on_event is not None:
            self.options.on_event({"event": "remark", "text": getattr(self.task, "order", "")})
        found = read_checkpoint(self.run)
        reached = -1
        if found is not None:
            reached = stage_of(found[0], self.stages, self.run)
            # Before anything is made for the stage: its handle is attached to what earlier stages left.
            self.run.notes = found[0]["notes"]
            self.state = RunState.from_notes(self.run.notes)
            # A file is read onto the CPU, wherever the model is.
            device = next(self.model.parameters()).device
            self.state.held = {n: mask.to(device) for n, mask in self.state.held.items()}
        for number, stage in enumerate(self.stages):
            if number >= reached:
                self._stage(stage, entered=number == reached)
            # Of the stages that are over, only the aim that is still in force matters: an aim may put
            # the weights of its own moment into the model, which training then replaces by its own.
            elif stage.aim is not None and self._aim_of(reached) is stage.aim:
                self.constraint = stage.aim.recall(self.run, self.model)

    def _aim_of(self, number: int) -> Any:
        """The aim that is in force at a stage without one of its own."""
        return next((s.aim for s in reversed(self.stages[: number + 1]) if s.aim is not None), None)

    def _stage(self, stage: Stage, entered: bool) -> None:
        """One stage, from its start or (``entered``) from its last checkpoint on."""
        if not entered and self._met_already(stage):
            return
        # A stage that was entered has its start and its aim behind it: its first checkpoint was written
        # after both. What a kill interrupts before that is done again, from the same weights.
        if not entered:
            start_(self.model, self.run, stage.start, self.state.held)
        self._aim(stage, entered)
        handle = self._handle(stage)
        try:
            if handle is not None and not entered:
                self._tell(handle)
            fitted = self._train(stage, handle)
            cut = (
                self._cut_(handle) if handle is not None and _ends_with_cut(stage, handle) else None
            )
            certificate = None if handle is None else handle.certificate()
        finally:
            if handle is not None:
                handle.close()
        last = None
        if stage.figure == "retrained":
            delivered = self.state.delivered if cut is not None else fitted.metrics
            last = delivered or self.task.evaluate(self.model)
        self.state.add(stage, fitted, certificate, cut, last, self._nonzero())
        if stage.figure == "quantised" and stage.cut:
            self._note_levels()
        self.state.note(self.run.notes)

    def _aim(self, stage: Stage, entered: bool) -> None:
        """The constraint from here on; before the first, what the run was like when it was dense."""
        if stage.aim is None:
            return
        if entered:
            self.constraint = stage.aim.recall(self.run, self.model)
            return
        # Noted before the aim is decided: a search for bits or widths may itself be interrupted.
        if self.state.dense is None:
            self.state.dense = self.task.evaluate(self.model)
            self.run.write_weights("before.safetensors", self.model.state_dict())
            self.draw("dense")
        self.constraint = stage.aim.decide(self.run, self.model, self.task)
        self.run.identify({**self.run.identity, **plan_written(self.run)})
        self.state.note(self.run.notes)

    def _tell(self, handle: Handle) -> None:
        """What the figure is before the first step, where it was measured on these very weights."""
        goal, dense = self.task.goal, self.state.dense
        if dense is not None and self.state.delivered is None:
            handle.evaluated(dense.get(goal.name), goal, before=True)

    def _handle(self, stage: Stage) -> Handle | None:
        """The stage's method at work; of one without, what holds the zeros, if there are any."""
        training, task, method = stage.training, self.task, stage.method
        if method is None and (self.state.held or stage.cut):
            method = KeepZeros()
        if method is None:
            return None
        per_epoch = method.trains_on(task).steps_per_epoch
        assert self.constraint is not None  # check_stages
        setting = Setting(
            optimizer=lambda groups: build_optimizer(groups, training),
            steps=training.epochs * per_epoch or None, steps_per_epoch=per_epoch, lr=training.lr,
            task=task, seed=self.seed, held=self.state.held, autocast=autocast_dtype(training),
            probe=probe_of(self.model, task) if self.probe else None,
        )  # fmt: skip
        constraint = self.constraint
        # A stage that says itself what the weights may be is taken at its word.
        if stage.aim is None:
            constraint = left_by_cut(constraint, self.state.held)
        return method.attach(self.model, constraint, setting)

    def _train(self, stage: Stage, handle: Handle | None) -> FitResult:
        training, options = stage.training, self.options
        task = self.task if stage.method is None else stage.method.trains_on(self.task)
        optimizer = None if handle is None else handle.optimizer
        if optimizer is None:
            optimizer = build_optimizer(self.model.parameters(), training)
        scheduler = None
        if handle is None or handle.takes_schedule:
            scheduler = build_scheduler(optimizer, training, task.steps_per_epoch)
        return fit(
            self.model, task, handle, optimizer=optimizer, epochs=training.epochs, phase=stage.name,
            scheduler=scheduler,
            evaluate_every=training.evaluate_every, clip=training.clip, sam=training.sam, goal=stage.goal,
            autocast=autocast_dtype(training), run=self.run,
            snapshots=snapshots_of(self.stages, stage.name),
            checkpoint_every=options.checkpoint_every, checkpoint_seconds=options.checkpoint_seconds,
            on_event=options.on_event, world=self.world,
        )  # fmt: skip

    def _cut_(self, handle: Handle) -> tuple[Mapping[str, float], Mapping[str, float] | None]:
        """Both figures of the cut model, then the cut; its zeros are held from here on.

        BatchNorm keeps the re-estimated statistics if the cut changed any weight. Where the zeros were
        held already, its own were gathered by the very weights that stay, over many more batches.
        """
        cut, cut_bn = evaluate_cut(self.model, self.task, handle)
        changed = not handle.nothing_to_cut()
        handle.hard_prune_()
        if changed and cut_bn is not None:
            reestimate_(self.model, self.task.inputs("train", CALIBRATION_BATCHES))
        self.state.delivered = (cut_bn if changed else cut) or cut
        self.state.held = {**self.state.held, **handle.zeros}
        # Not so for a method that decides the density by itself; and then no later cut makes it so.
        self.state.on_plan = self.state.on_plan is not False and zeros_fit(
            handle.constraint, self.model
        )
        handle.evaluated(self.state.delivered.get(self.task.goal.name), self.task.goal)
        return cut, cut_bn

    def _met_already(self, stage: Stage) -> bool:
        """Whether a stage that trains for a goal finds that the last cut has met it.

        One that cuts, or that says what the weights may be, has more to do than to train.
        """
        delivered, goal = self.state.delivered, self.task.goal
        if stage.goal is None or stage.cut or stage.aim is not None or delivered is None:
            return False
        return goal.reached(delivered[goal.name], stage.goal)

    def _nonzero(self) -> int | None:
        if self.constraint is None:
            return None
        weights = [self.model.get_parameter(name) for name in self.constraint.names]
        return sum(int(torch.count_nonzero(w)) for w in weights)

    def _note_levels(self) -> None:
        self.state.note_levels(self.run, self.model, self.constraint)

    def draw(self, when: str) -> None:
        """What the model says now to a few test samples, for people: ``WHEN-1.png`` and so on."""
        if isinstance(self.task, Drawn):
            for number, picture in enumerate(self.task.pictures(self.model), 1):
                write_bytes(self.run.to_write(f"{when}-{number}.png"), picture)

    def check_weights(self) -> None:
        """Refuse to end with weights that are not what the cuts left and the plan allows."""
        aims = [s.aim for s in self.stages if isinstance(s.aim, Planned | Round)]
        plan = aims[-1].recall(self.run, self.model) if aims and self.state.on_plan else None
        check_weights(self.model, self.state.held, plan, str(self.run.path))

    def result(self, failure: str | None = None) -> Result:
        return result_of(self.state, self.model, self.task, self._counted(), failure)

    def _counted(self) -> Constraint | None:
        """What was pruned: the plan, whatever levels came after it."""
        return plan_of(self.run) or self.constraint


def plan_of(run: RunFolder) -> Plan | None:
    """The plan in a run folder; None where there is none."""
    return Plan.load(run / "plan.yaml") if (run / "plan.yaml").is_file() else None


def _ends_with_cut(stage: Stage, handle: Handle) -> bool:
    """As it says; and where retraining has left the constraint, as it does one of levels."""
    return stage.cut or (stage.figure == "retrained" and not handle.nothing_to_cut())
