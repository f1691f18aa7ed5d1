"""What stops a run, each with what to do about it."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from espalier.errors import CheckpointError, NonFiniteError, RequestError
from espalier.training._journal import Journal
from espalier.training._place import Progress


def check_loss(loss: Tensor | float, progress: Progress, run: Journal | None) -> None:
    """Refuse to go on from a loss that is NaN or infinite."""
    if math.isfinite(loss):
        return
    kept = f" The last good checkpoint is kept in {run.path}." if run is not None else ""
    raise NonFiniteError(
        f"the training loss is {float(loss)} at step {progress.steps + 1} of {progress.phase} "
        f"(epoch {progress.epoch + 1}); try a lower learning rate, a smaller rho, or clip=1.0.{kept}"
    )


def check_settings(
    epochs: int,
    evaluate_every: int,
    clip: float | None,
    sam: float,
    autocast: torch.dtype | None,
    checkpoint_every: int | None,
) -> None:
    """Refuse what ``fit`` cannot do."""
    if epochs < 0:
        raise RequestError(f"epochs={epochs}; give epochs >= 0")
    if evaluate_every < 1:
        raise RequestError(f"evaluate_every={evaluate_every}; give at least 1 (epochs)")
    if checkpoint_every is not None and checkpoint_every < 1:
        raise RequestError(f"checkpoint_every={checkpoint_every}; give at least 1 (steps)")
    if clip is not None and not clip > 0:
        raise RequestError(f"clip={clip}; give a norm > 0, or None not to clip")
    if not 0 <= sam < math.inf:
        raise RequestError(f"sam={sam}; give a radius > 0, or 0 for plain steps")
    if autocast is not None and autocast != torch.bfloat16:
        raise RequestError(
            f"autocast={autocast}; give torch.bfloat16 (float16 would need loss scaling) or None"
        )


@torch.no_grad()
def check_weights(model: nn.Module, steps: int, phase: str) -> None:
    """Refuse to save weights that are not worth going back to."""
    for name, parameter in model.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise NonFiniteError(
                f"{name} holds NaN or infinity after step {steps} of {phase}; "
                f"lower the learning rate or rho, or clip gradients. The checkpoint before it is kept"
            )


def check_phase(run: Journal, saved: Mapping[str, Any], phase: str) -> None:
    """Refuse to begin ``phase`` over a checkpoint of one that was not gone through just before."""
    if saved["phase"] != run.phase:
        raise CheckpointError(
            f"{run.path}: its last checkpoint is of the phase {saved['phase']!r}, and beginning "
            f"{phase!r} would lose it; go on with {saved['phase']!r}, or give another folder"
        )
