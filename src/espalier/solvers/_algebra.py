"""Arithmetic on tensors by name: what every Lagrangian solver writes in its equations."""

from collections.abc import Mapping
from math import sqrt

import torch
from torch import Tensor

from espalier._ground.sharding import distributed, local, totals
from espalier._ground.types import Weights

Named = dict[str, Tensor]


def difference(a: Weights, b: Weights) -> Named:
    """``a − b``, tensor by tensor."""
    return {name: a[name] - b[name] for name in b}


def ascend(a: Weights, step: float, b: Weights) -> Named:
    """``a + step · b``, tensor by tensor."""
    return {name: torch.add(a[name], b[name], alpha=step) for name in b}


def norms(a: Weights) -> dict[str, float]:
    """Frobenius norm of each whole tensor; one transfer from the device for all of them."""
    if not a:
        return {}
    parts = torch._foreach_norm([local(x) for x in a.values()])
    if not any(distributed(x) for x in a.values()):
        values = torch.stack([n.double() for n in parts]).tolist()
        return dict(zip(a, values, strict=True))
    squares = {name: n.double().square() for name, n in zip(a, parts, strict=True)}
    return {name: sqrt(x) for name, x in zip(a, totals(squares, a), strict=True)}


def size(g: Weights) -> float:
    """‖g‖ as the paper's code has it: the sum over tensors of their Frobenius norms."""
    return sum(norms(g).values())


def penalty_terms(
    multiplier: Weights, g: Weights, rho: float, metric: Mapping[str, Tensor] | None = None
) -> float:
    """⟨Λ, g⟩ + ρ/2 ‖g‖²: the augmented Lagrangian without f, in float64.

    With a ``metric`` H the multiplier is carried as H⁻¹Λ and both products are weighted by H.
    """
    products = {}
    for name, violation in g.items():
        weighted = local(violation if metric is None else violation * metric[name])
        along = local(multiplier[name]) + (rho / 2) * local(violation)
        products[name] = torch.sum(weighted * along, dtype=torch.float64)
    return sum(totals(products, g))
