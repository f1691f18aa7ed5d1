r"""Sharpness-aware steps: the gradient is that of the worst point near the weights.

Legend (paper → here): w the model's ``parameters``, ρ ``radius`` (ρ is the penalty here), ∇L their ``grad``,
ε̂(w) what is added to them inside the block.

Foret, Kleiner, Mobahi & Neyshabur, "Sharpness-Aware Minimization for Efficiently Improving Generalization",
ICLR 2021 (arXiv:2010.01412), Algorithm 1 and equation (2) with p = 2.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from espalier._ground.types import Masks

TINY = 1e-12
"""Below this norm a gradient has no direction, and the weights stay where they are."""


@contextmanager
def sharpest(
    parameters: Mapping[str, nn.Parameter], radius: float, masks: Masks | None = None
) -> Iterator[None]:
    r"""The weights at the highest point of the loss within ``radius``, to first order; on exit back to the bit.

    .. math:: w + \hat\epsilon(w), \qquad \hat\epsilon(w) = r \, \frac{M \odot \nabla L(w)}{\|M \odot \nabla L(w)\|_2}

    Args:
        parameters: By name; those without a gradient stay where they are. Changed inside the block.
        radius: r >= 0, Euclidean, over all of them together; 0 leaves them as they are.
        masks: M by name: where False the weight is held, and the neighbourhood is that of the others.

    Example:
        >>> w = nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> w.grad = torch.tensor([3.0, 4.0])
        >>> with sharpest({"w": w}, 0.5):
        ...     w.tolist()
        [1.2999999523162842, 2.4000000953674316]
        >>> w.tolist()
        [1.0, 2.0]
    """
    moved = {name: p for name, p in parameters.items() if p.grad is not None}
    values: list[Tensor] = list(moved.values())
    saved = [p.detach().clone() for p in values]
    with torch.no_grad():
        up = [
            p.grad * masks[name] if masks and name in masks else p.grad.clone()
            for name, p in moved.items()
            if p.grad is not None
        ]
        if up:
            scale = radius / nn.utils.get_total_norm(up).clamp(min=TINY)
            torch._foreach_mul_(up, scale)
            torch._foreach_add_(values, up)
    try:
        yield
    finally:
        with torch.no_grad():
            # Copied back, not subtracted: (w + ε) − ε is w only up to rounding.
            torch._foreach_copy_(values, saved)
