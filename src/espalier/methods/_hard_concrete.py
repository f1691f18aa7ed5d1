r"""The hard concrete distribution: a gate that is exactly 0, or exactly 1, with positive probability.

Legend, as in the paper: :math:`\alpha` the location (kept as log α), :math:`\beta` the temperature,
:math:`(\gamma, \zeta)` with γ < 0 < 1 < ζ the interval that the concrete variable is stretched to,
:math:`u` uniform noise, :math:`z` the gate.

Source: Louizos, Welling & Kingma 2018, *Learning Sparse Neural Networks through L0 Regularization*
(arXiv 1712.01312), equations 10 to 13.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Gt, Lt
from torch import Tensor

from espalier._ground.ranges import Checked

EPSILON = 1e-6
"""Noise stays this far from 0 and 1, where its logit is infinite."""


@dataclass(frozen=True, kw_only=True)
class HardConcrete(Checked):
    """The distribution of a gate z, given its log α; all functions are elementwise.

    Args:
        beta: Temperature, > 0.
        gamma: Lower end of the stretched interval, < 0.
        zeta: Upper end, > 1.
    """

    beta: Annotated[float, Gt(0)] = 2 / 3
    gamma: Annotated[float, Lt(0)] = -0.1
    zeta: Annotated[float, Gt(1)] = 1.1

    def sample(self, log_alpha: Tensor, u: Tensor) -> Tensor:
        r"""A gate for each u in (0, 1), differentiable in log α (equations 10, 11).

        .. math:: s = \sigma((\log u - \log(1 - u) + \log\alpha) / \beta), \quad
                  z = \min(1, \max(0, s (\zeta - \gamma) + \gamma))

        Example:
            >>> HardConcrete().sample(torch.tensor([-9.0, 0.0, 9.0]), torch.tensor(0.5))
            tensor([0.0000, 0.5000, 1.0000])
        """
        return self._hard(torch.sigmoid((torch.logit(u, EPSILON) + log_alpha) / self.beta))

    def test_time(self, log_alpha: Tensor) -> Tensor:
        r"""The gate without noise, :math:`\min(1, \max(0, \sigma(\log\alpha)(\zeta - \gamma) + \gamma))` (13)."""
        return self._hard(torch.sigmoid(log_alpha))

    def probability(self, log_alpha: Tensor) -> Tensor:
        r"""P(z ≠ 0) = :math:`\sigma(\log\alpha - \beta \log(-\gamma / \zeta))`, in (0, 1) (equation 12).

        Example:
            >>> HardConcrete().probability(torch.zeros(1))
            tensor([0.8318])
        """
        return torch.sigmoid(log_alpha - self.beta * math.log(-self.gamma / self.zeta))

    def slope(self, log_alpha: Tensor) -> Tensor:
        r""":math:`\partial P(z \ne 0) / \partial \log\alpha = P (1 - P)`."""
        p = self.probability(log_alpha)
        return p * (1 - p)

    def _hard(self, s: Tensor) -> Tensor:
        return (s * (self.zeta - self.gamma) + self.gamma).clamp(0, 1)


def location(droprate: float) -> float:
    """The log α at which σ(log α) is 1 − droprate; the paper's initialisation."""
    return math.log((1 - droprate) / droprate)
