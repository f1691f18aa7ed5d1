"""From any score of single weights to the diagonal in which the largest scores are the nearest point."""

import torch
from torch import Tensor

from espalier._ground.sharding import peak
from espalier._ground.types import Weights

SMALLEST = 1e-6
"""A weight below this fraction of its tensor's largest counts for less than its score: h would overflow."""


@torch.no_grad()
def ranking(scores: Weights, w: Weights) -> dict[str, Tensor]:
    r"""The diagonal H in which the energy of a weight is its score.

    .. math:: h_i = \frac{s_i - \min(0, \min_j s_j)}{w_i^2}, \qquad h_i w_i^2 = s_i + \text{const}

    The constant is one for all tensors, so units of one size are ranked by the sum of their scores and
    tensors compete as they should. A weight that is zero has nothing to lose: its energy is 0.

    Args:
        scores: s by name, real, any sign.
        w: The weights, of the same names and shapes.

    Returns:
        New float64 tensors >= 0 off the graph, equal to the scores (shifted) over w² to rounding.

    Example:
        >>> h = ranking({"w": torch.tensor([-1.0, 3.0, 0.5])}, {"w": torch.tensor([2.0, 1.0, 0.0])})
        >>> h["w"].tolist()[:2]
        [0.0, 4.0]
    """
    lowest = min([0.0, *(-peak((-s).where(w[n] != 0, -torch.inf)) for n, s in scores.items())])
    found = {}
    for name, s in scores.items():
        square = w[name].detach().double().square()
        # The floor holds h within what float32 can rank beside the largest weights; without it one tiny
        # weight would push all others under its smallest number.
        floor = max(0.0, peak(square)) * SMALLEST**2
        found[name] = (s.detach().double() - lowest).clamp(min=0) / square.clamp(min=floor or 1.0)
    return found
