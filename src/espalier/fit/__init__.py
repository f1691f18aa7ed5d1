"""Fit: the one training loop, checkpoints and the run folder."""

from espalier.fit.batchnorm import reestimate_, reestimated
from espalier.fit.folder import RunFolder
from espalier.fit.loop import FitResult, fit
from espalier.fit.optimizers import Training, build_optimizer, build_scheduler
from espalier.fit.phases import RunResult, prune_run
from espalier.fit.progress import show_progress
from espalier.fit.record import Event, RunRecord, read_run
from espalier.fit.tree import load_tree, save_tree

__all__ = [
    "Event",
    "FitResult",
    "RunFolder",
    "RunRecord",
    "RunResult",
    "Training",
    "build_optimizer",
    "build_scheduler",
    "fit",
    "load_tree",
    "prune_run",
    "read_run",
    "reestimate_",
    "reestimated",
    "save_tree",
    "show_progress",
]
