"""Fit: the one training loop, checkpoints and the run folder."""

from espalier.fit.batchnorm import reestimate_, reestimated
from espalier.fit.folder import RunFolder
from espalier.fit.loop import FitResult, fit
from espalier.fit.record import Event, RunRecord, read_run
from espalier.fit.tree import load_tree, save_tree

__all__ = [
    "Event",
    "FitResult",
    "RunFolder",
    "RunRecord",
    "fit",
    "load_tree",
    "read_run",
    "reestimate_",
    "reestimated",
    "save_tree",
]
