"""Is what another runtime computes what PyTorch computes?"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from espalier.errors import RunError

TOLERANCE = 1e-3
"""Of max |Δoutput| relative to max |output|; above it nothing is handed out."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far another runtime is from PyTorch.

    Attributes:
        difference: max |Δoutput|.
        scale: max |output| of PyTorch.
        batches: How many were compared.
    """

    difference: float
    scale: float
    batches: int


def agreement(
    model: nn.Module,
    run: Callable[[Tensor], Any],
    inputs: Iterable[Tensor],
    *,
    runtime: str,
    tolerance: float = TOLERANCE,
) -> Agreement:
    """Compare a runtime with PyTorch on batches.

    Args:
        model: On the CPU, in evaluation mode, with tensors as output.
        run: The same model in the other runtime: one tensor, or the tensors in their order.
        inputs: Batches.
        runtime: Its name, for the message.
        tolerance: On max |Δoutput| / max |output|.

    Raises:
        RunError: It computes something else, or outputs of another form.
    """
    difference = scale = 0.0
    batches = 0
    for batch in inputs:
        with torch.no_grad():
            expected = tree_leaves(model(batch))
        found = tree_leaves(run(batch))
        if [getattr(t, "shape", None) for t in expected] != [t.shape for t in found]:
            raise RunError(f"{runtime}'s output is not of the form of the model's")
        for wanted, got in zip(expected, found, strict=True):
            gap = (wanted.double() - got.double()).abs().max().item()
            # NaN is unequal to itself, and max() would pass it over.
            difference = max(difference, gap if gap == gap else float("inf"))
            scale = max(scale, wanted.double().abs().max().item())
        batches += 1
    if not difference <= tolerance * scale:
        raise RunError(
            f"{runtime} computes something else: max |Δoutput| {difference:.2e} with outputs up to "
            f"{scale:.2e}, and {tolerance:g} of that is allowed"
        )
    return Agreement(difference=difference, scale=scale, batches=batches)
