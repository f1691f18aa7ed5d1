"""Is what another runtime computes what PyTorch computes?"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

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
    run: Callable[[Tensor], Tensor],
    inputs: Iterable[Tensor],
    *,
    runtime: str,
    tolerance: float = TOLERANCE,
) -> Agreement:
    """Compare a runtime with PyTorch on batches.

    Args:
        model: On the CPU, in evaluation mode, with one tensor as output.
        run: The same model in the other runtime.
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
            expected = model(batch)
        found = run(batch)
        if not isinstance(expected, Tensor) or expected.shape != found.shape:
            raise RunError(f"{runtime}'s output is not of the form of the model's")
        gap = (expected.double() - found.double()).abs().max().item()
        # NaN is unequal to itself, and max() would pass it over.
        difference = max(difference, gap if gap == gap else float("inf"))
        scale = max(scale, expected.double().abs().max().item())
        batches += 1
    if not difference <= tolerance * scale:
        raise RunError(
            f"{runtime} computes something else: max |Δoutput| {difference:.2e} with outputs up to "
            f"{scale:.2e}, and {tolerance:g} of that is allowed"
        )
    return Agreement(difference=difference, scale=scale, batches=batches)
