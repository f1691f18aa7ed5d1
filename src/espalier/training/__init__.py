"""Fit: the one training loop, checkpoints and the run folder."""

from espalier.training.batchnorm import reestimate_, reestimated
from espalier.training.folder import RunFolder
from espalier.training.loop import FitResult, fit
from espalier.training.optimizers import Training, build_optimizer, build_scheduler
from espalier.training.phases import RunResult, prune_run
from espalier.training.progress import show_progress
from espalier.training.quantising import FreezeGradually, Quantise, SearchBits
from espalier.training.record import Event, RunRecord, read_run
from espalier.training.tree import load_tree, save_tree

__all__ = [
    "Event",
    "FitResult",
    "FreezeGradually",
    "Quantise",
    "RunFolder",
    "RunRecord",
    "RunResult",
    "SearchBits",
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
