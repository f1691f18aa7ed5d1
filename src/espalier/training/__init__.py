"""Training: the one loop, its checkpoints, optimisers and schedules."""

from espalier.training._batchnorm import reestimate_, reestimated
from espalier.training._checkpoint import randomness_kept, read_checkpoint
from espalier.training._evaluation import CALIBRATION_BATCHES, evaluate_cut, evaluate_now, probe_of
from espalier.training._loop import FitResult, fit
from espalier.training._optimizers import (
    Training,
    autocast_dtype,
    build_optimizer,
    build_scheduler,
)
from espalier.training._progress import show_progress
from espalier.training._step import train_step

__all__ = [
    "CALIBRATION_BATCHES",
    "FitResult",
    "Training",
    "autocast_dtype",
    "build_optimizer",
    "build_scheduler",
    "evaluate_cut",
    "evaluate_now",
    "fit",
    "probe_of",
    "randomness_kept",
    "read_checkpoint",
    "reestimate_",
    "reestimated",
    "show_progress",
    "train_step",
]
