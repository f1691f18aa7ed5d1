"""Training: the one loop, its checkpoints, optimisers and schedules."""

from espalier.training._batchnorm import reestimate_, reestimated
from espalier.training._loop import FitResult, fit
from espalier.training._optimizers import Training, build_optimizer, build_scheduler
from espalier.training._progress import show_progress

__all__ = [
    "FitResult",
    "Training",
    "build_optimizer",
    "build_scheduler",
    "fit",
    "reestimate_",
    "reestimated",
    "show_progress",
]
