"""The whole road of one run: pretrain, prune, cut, retrain with the zeros held, and the evidence.

Killed at any moment and begun again with ``resume``, it ends with the same weights: training goes
on from its last checkpoint, and what stands between two phases is done again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from torch import nn

from espalier.errors import NonFiniteError
from espalier.measure import counts
from espalier.models import load_weights
from espalier.planning import Plan
from espalier.pruning import Pruning
from espalier.solvers import Solver
from espalier.tasks import Task
from espalier.training.atomic import replacing
from espalier.training.batchnorm import reestimate_
from espalier.training.checkpoint import read_checkpoint
from espalier.training.evaluation import CALIBRATION_BATCHES, evaluate_cut, probe_of
from espalier.training.folder import RunFolder
from espalier.training.loop import FitResult, fit
from espalier.training.optimizers import Training, autocast_dtype, build_optimizer, build_scheduler
from espalier.training.record import OnEvent, read_run

PHASES = ("pretrain", "prune", "retrain")


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run ended with.

    Attributes:
        path: Its folder.
        model: The model given, pruned.
        plan: What it was pruned to.
        result: ``result.json``.
    """

    path: Path
    model: nn.Module
    plan: Plan
    result: Mapping[str, Any]


def prune_run(
    model: nn.Module,
    task: Task,
    plan: Plan | Callable[[nn.Module], Plan],
    solver: Solver,
    *,
    folder: Path | str,
    prune: Training,
    pretrain: Training | None = None,
    retrain: Training | None = None,
    goal: float | None = None,
    probe: bool = False,
    config: Mapping[str, Any] | None = None,
    resume: bool = False,
    checkpoint_every: int | None = None,
    checkpoint_seconds: float = 30.0,
    on_event: OnEvent | None = None,
) -> RunResult:
    """Prune a model from beginning to end, into a run folder.

    Args:
        model: Made the same way (same seed) when resuming; changed in place.
        task: Likewise.
        plan: What to prune to; or how to plan once the model is pretrained, for budgets that look
            at its weights.
        solver: By which dynamics.
        folder: The run folder.
        prune: How to train while pruning.
        pretrain: How to train before, if at all.
        retrain: How to train after the cut, zeros held, if at all; left out if ``goal`` is met.
        goal: Each of pruning and retraining stops when the goal metric is at least this.
        probe: Ask SLR's condition (3) of one fixed batch instead of the interval's mean loss.
        config: What ``config.json`` is to say.
        resume: Go on with the run in ``folder``. One that has ended is read, not run.
        checkpoint_every: Steps between two checkpoints.
        checkpoint_seconds: Seconds after which one is written in any case.
        on_event: Called with every event.

    Returns:
        The pruned model and its evidence.

    Raises:
        NonFiniteError: The loss became NaN or infinite; ``result.json`` says so too.
        WrongFolderError: The folder holds something else.
        RunFolderError: The folder is in use, or the disk is full.
        CheckpointError: The run cannot be resumed from its checkpoints.
    """
    with RunFolder(folder, resume=resume) as run:
        if resume and (done := _finished(run)) is not None:
            load_weights(model, run / "weights.safetensors")
            return RunResult(
                path=run.path, model=model, plan=Plan.load(run / "plan.yaml"), result=done
            )
        if not (run / "config.json").exists():
            run.write_config(config or {})

        def train(phase: str, training: Training, pruning: Pruning | None = None) -> FitResult:
            optimizer = optimizers[phase]
            return fit(
                model, task, pruning, optimizer=optimizer, epochs=training.epochs, phase=phase,
                scheduler=build_scheduler(optimizer, training, task.steps_per_epoch),
                evaluate_every=training.evaluate_every, clip=training.clip,
                goal=None if phase == "pretrain" else goal, autocast=autocast_dtype(training),
                run=run, checkpoint_every=checkpoint_every, checkpoint_seconds=checkpoint_seconds,
                on_event=on_event,
            )  # fmt: skip

        settings = {"pretrain": pretrain, "prune": prune, "retrain": retrain}
        optimizers = {
            phase: build_optimizer(model.parameters(), training)
            for phase, training in settings.items()
            if training is not None
        }
        found = read_checkpoint(run)
        reached = PHASES.index(found[0]["progress"]["phase"]) if found is not None else 0
        try:
            if reached == 0:
                if pretrain is not None:
                    _note(run, train("pretrain", pretrain))
                run.notes["dense"] = task.evaluate(model)
                run.write_weights("before.safetensors", model.state_dict())
                plan = plan if isinstance(plan, Plan) else plan(model)
                with replacing(run / "plan.yaml") as temporary:
                    plan.save(temporary)
            plan = plan if isinstance(plan, Plan) else Plan.load(run / "plan.yaml")
            steps = prune.epochs * task.steps_per_epoch
            pruning = Pruning(
                model, plan, solver, optimizers["prune"], steps=steps or None,
                probe=probe_of(model, task) if probe else None,
            )  # fmt: skip
            if reached <= 1:
                _note(run, train("prune", prune, pruning))
                _cut_(run, model, task, pruning)
            if retrain is not None and (reached == 2 or not _met(run, task, goal)):
                retrained = train("retrain", retrain, pruning)
                _note(run, retrained)
                run.notes["retrained"] = retrained.metrics or task.evaluate(model)
        except NonFiniteError as error:
            run.write_json(
                "result.json",
                _result(run, model, plan if isinstance(plan, Plan) else None, str(error)),
            )
            raise
        run.write_weights("weights.safetensors", model.state_dict())
        result = _result(run, model, plan)
        run.write_json("result.json", result)
        return RunResult(path=run.path, model=model, plan=plan, result=result)


def _cut_(run: RunFolder, model: nn.Module, task: Task, pruning: Pruning) -> None:
    """Both figures of the cut model, then the cut.

    BatchNorm keeps the re-estimated statistics if the cut changed any weight. Where the zeros were
    held already, its own were gathered by the very weights that stay, over many more batches.
    """
    notes = run.notes
    notes["certificate"] = pruning.certificate().to_dict()
    notes["hard_pruned"], notes["hard_pruned_bn"] = evaluate_cut(model, task, pruning)
    changed = not pruning.plan.contains(dict(model.named_parameters()))
    pruning.hard_prune_()
    if changed and notes["hard_pruned_bn"] is not None:
        reestimate_(model, islice(task.calibration(), CALIBRATION_BATCHES))
    notes["delivered"] = notes["hard_pruned_bn"] if changed else notes["hard_pruned"]
    notes["delivered"] = notes["delivered"] or notes["hard_pruned"]


def _note(run: RunFolder, fitted: FitResult) -> None:
    """What the result will say of a phase; kept in the checkpoints of the phases after it."""
    run.notes.setdefault("epochs", {})[fitted.phase] = fitted.epochs
    run.notes.setdefault("seconds", {})[fitted.phase] = fitted.seconds
    step = (
        "solver" if fitted.phase == "prune" else "dense" if fitted.phase == "pretrain" else "held"
    )
    run.notes.setdefault("step_seconds", {})[step] = fitted.step_seconds


def _met(run: RunFolder, task: Task, goal: float | None) -> bool:
    return goal is not None and bool(run.notes["delivered"][task.goal_metric] >= goal)


def _finished(run: RunFolder) -> Mapping[str, Any] | None:
    """The result of a run that needs no more; one stopped by NaN does."""
    if not (run / "result.json").exists():
        return None
    result = read_run(run.path).result or {}
    return None if result.get("outcome") == "non_finite" else result


def _result(
    run: RunFolder, model: nn.Module, plan: Plan | None, failure: str | None = None
) -> dict[str, Any]:
    """``result.json``; with ``failure``, what there is of it."""
    notes = run.notes
    pruned = plan.names if plan is not None else ()
    report = counts(model, pruned=pruned)
    certificate = notes.get("certificate", {})
    return {
        "outcome": "non_finite" if failure else certificate["outcome"],
        "sentence": failure or certificate["sentence"],
        **{
            name: notes.get(name)
            for name in ("dense", "hard_pruned", "hard_pruned_bn", "retrained")
        },
        "counts": report.to_dict(),
        "layers": {
            name: {"total": count.total, "nonzero": count.nonzero, "density": count.density}
            for name, count in report.layers.items()
            if name in pruned
        },
        "certificate": certificate,
        "epochs": notes.get("epochs", {}),
        "seconds": notes.get("seconds", {}),
        "step_seconds": {"dense": None, "solver": None, **notes.get("step_seconds", {})},
    }
