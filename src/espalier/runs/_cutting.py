"""The cut at the end of a phase, and what is noted of it."""

from itertools import islice

from torch import nn

from espalier.tasks import Task
from espalier.training._batchnorm import reestimate_
from espalier.training._evaluation import CALIBRATION_BATCHES, evaluate_cut
from espalier.runs._folder import RunFolder
from espalier.training._handle import Handle
from espalier.training._loop import FitResult

_KIND = {"prune": "solver", "pretrain": "dense", "retrain": "held"}


def cut_(run: RunFolder, model: nn.Module, task: Task, handle: Handle, stage: str) -> None:
    """Both figures of the cut model, then the cut.

    BatchNorm keeps the re-estimated statistics if the cut changed any weight. Where the zeros were
    held already, its own were gathered by the very weights that stay, over many more batches.

    Args:
        run: Its notes get ``stage``, ``stage_bn`` and ``delivered``.
        model: Cut in place.
        task: Evaluates.
        handle: Cuts.
        stage: ``"hard_pruned"`` or ``"quantised"``.
    """
    notes = run.notes
    cut, cut_bn = evaluate_cut(model, task, handle)
    changed = not handle.plan.contains(dict(model.named_parameters()))
    handle.hard_prune_()
    if changed and cut_bn is not None:
        reestimate_(model, islice(task.calibration(), CALIBRATION_BATCHES))
    notes[stage], notes[f"{stage}_bn"] = cut, cut_bn
    notes["delivered"] = (cut_bn if changed else cut) or cut


def note(run: RunFolder, fitted: FitResult) -> None:
    """What the result will say of a phase; kept in the checkpoints of the phases after it."""
    run.notes.setdefault("epochs", {})[fitted.phase] = fitted.epochs
    run.notes.setdefault("seconds", {})[fitted.phase] = fitted.seconds
    kind = _KIND.get(fitted.phase, fitted.phase)
    run.notes.setdefault("step_seconds", {})[kind] = fitted.step_seconds
