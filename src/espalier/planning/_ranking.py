"""A ranking of coupled units over all groups at once, in place of one fraction for each."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor

from espalier import budgets
from espalier._ground.example import Example
from espalier._ground.types import Keep, Weights
from espalier.budgets._ranking import Scores
from espalier.errors import BudgetError
from espalier.measure import layer_seconds
from espalier.planning._cost import Cost
from espalier.planning._limits import Costing


class Per(StrEnum):
    """What the score of a unit is divided by: what its removal saves."""

    BUDGET = "budget"
    MACS = "macs"
    BYTES = "bytes"
    SECONDS = "seconds"
    UNIT = "unit"


@dataclass(frozen=True, kw_only=True)
class Ranking:
    r"""Units of all groups compete: the least score for what its removal saves goes first.

    .. math:: e_u = \sum_t \sum_{i \in u_t} h_i w_i^2, \qquad
              \text{next to go: } \arg\min_u \, e_u / (c(k) - c(k - 1_u))

    The widths are decided once, from the weights of the moment; which units of a group stay remains the
    projection's choice. To be given as ``allocation=`` to :func:`espalier.plan`, with coupled channels;
    tensors that are pruned alone are ranked by :func:`espalier.budgets.global_magnitude`.

    Args:
        per: What is saved: of what the budgets ask (each in parts of its limit), multiply-accumulates,
            bytes, seconds of the dense model's layers measured here on one sample, or one for every unit.
        metric: h by parameter name, shape of the weight, ≥ 0: the Fisher information, mean squares of
            inputs; see :func:`espalier.metrics.diagonal`. Tensors it does not name score nothing. ``None``
            or empty: h = 1 for all.
        relative: Scores of a group divided by their mean. Energies have no common scale over layers
            (batch normalisation undoes any factor), a metric's rise of the loss has: so by default
            true without a metric and false with one.

    Raises:
        BudgetError: No values to rank (meta device).

    Source: Molchanov et al. 2019, *Importance estimation for neural network pruning* (global ranking);
    Shen et al. 2022, *Structural pruning via latency-saliency knapsack* (score for measured time).
    """

    per: Per = Per.BUDGET
    metric: Mapping[str, Tensor] | None = None
    relative: bool | None = None

    def __call__(self, layers: Mapping[str, budgets.Layer], density: float) -> dict[str, Keep]:
        """Of tensors that are pruned by themselves: the largest of all together."""
        return budgets.global_magnitude(layers, density)

    def scores(self, of: Costing) -> list[Scores]:
        """Of the units, group by group."""
        units = of.coupling.units
        weights: dict[str, Tensor] = {n: p.detach() for n, p in of.model.named_parameters()}
        if any(weights[name].is_meta for name in units.names):
            raise BudgetError("no values to rank (meta device?); give a model with weights")
        h: Weights | None = None
        if self.metric:
            known = self.metric
            h = {n: known.get(n, torch.zeros_like(weights[n])) for n in units.names}
        parts = torch.split(units.energies(weights, h), list(units.sizes))
        found = [part.cpu().numpy().astype(np.float64) for part in parts]
        relative = not self.metric if self.relative is None else self.relative
        return [group / max(group.mean(), 1e-300) for group in found] if relative else found

    def price(self, of: Costing, example: Example) -> Cost | None:
        """What a unit's removal saves; ``None``: what the budgets ask."""
        if self.per is Per.MACS:
            return of.macs()
        if self.per is Per.BYTES:
            return of.bytes()
        if self.per is Per.SECONDS:
            return of.by_weight(layer_seconds(of.model, example))
        if self.per is Per.UNIT:
            sizes = of.coupling.units.sizes
            return Cost.counting(sizes)
        return None
