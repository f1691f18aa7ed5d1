"""The whole road of one run: pretrain, prune, cut, retrain with the zeros held, quantise; the evidence.

Killed at any moment and begun again with ``resume``, it ends with the same weights: training goes
on from its last checkpoint, and what stands between two phases is done again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from espalier.errors import NonFiniteError
from espalier.measure import counts
from espalier.models import load_weights
from espalier.planning import Plan
from espalier.methods._pruning import Pruning
from espalier.solvers import Solver
from espalier.tasks import Task
from espalier.runs import _quantising as quantising
from espalier._ground.files import replacing
from espalier.training._checkpoint import read_checkpoint
from espalier.runs._cutting import cut_, note
from espalier.training._evaluation import probe_of
from espalier.runs._folder import RunFolder
from espalier.training._handle import Handle
from espalier.training._loop import FitResult, fit
from espalier.training._optimizers import Training, autocast_dtype, build_optimizer, build_scheduler
from espalier.runs._quantising import Quantise, quantise_
from espalier._ground.events import OnEvent
from espalier.runs._record import read_run

PHASES = ("pretrain", "prune", "retrain", *quantising.PHASES)
_QUANTISED = ("quantised", "quantised_bn", "quantisation")


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
    quantise: Quantise | None = None,
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
        quantise: How to quantise the survivors at the end, if at all.
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

        def train(phase: str, training: Training, pruning: Handle | None = None) -> FitResult:
            optimizer = optimizers[phase]
            return fit(
                model, task, pruning, optimizer=optimizer, epochs=training.epochs, phase=phase,
                scheduler=build_scheduler(optimizer, training, task.steps_per_epoch),
                evaluate_every=training.evaluate_every, clip=training.clip,
                goal=goal if phase in ("prune", "retrain") else None, autocast=autocast_dtype(training),
                run=run, checkpoint_every=checkpoint_every, checkpoint_seconds=checkpoint_seconds,
                on_event=on_event,
            )  # fmt: skip

        settings = {"pretrain": pretrain, "prune": prune, "retrain": retrain}
        if quantise is not None:
            settings["quantise"] = quantise.training
            settings["freeze"] = quantise.freeze.training if quantise.freeze else None
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
                    note(run, train("pretrain", pretrain))
                run.notes["dense"] = task.evaluate(model)
                run.write_weights("before.safetensors", model.state_dict())
                plan = plan if isinstance(plan, Plan) else plan(model)
                with replacing(run / "plan.yaml") as temporary:
                    plan.save(temporary)
            plan = plan if isinstance(plan, Plan) else Plan.load(run / "plan.yaml")
            if reached <= 2:
                steps = prune.epochs * task.steps_per_epoch
                pruning = Pruning(
                    model, plan, solver, optimizers["prune"], steps=steps or None,
                    probe=probe_of(model, task) if probe else None,
                )  # fmt: skip
                if reached <= 1:
                    note(run, train("prune", prune, pruning))
                    run.notes["certificate"] = pruning.certificate().to_dict()
                    cut_(run, model, task, pruning, "hard_pruned")
                if retrain is not None and (reached == 2 or not _met(run, task, goal)):
                    retrained = train("retrain", retrain, pruning)
                    note(run, retrained)
                    run.notes["retrained"] = retrained.metrics or task.evaluate(model)
            if quantise is not None:
                going_on = PHASES[reached] if reached > 2 else None
                quantise_(run, model, task, quantise, train, optimizers, going_on)
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
        **{name: notes[name] for name in _QUANTISED if name in notes},
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
