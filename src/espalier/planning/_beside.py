"""Tensors that are pruned by themselves in a model that loses whole channels besides."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn

from espalier import budgets
from espalier._ground.types import Keep
from espalier.budgets._patterns import matching
from espalier.errors import BudgetError
from espalier.measure import LayerCosts, model_bytes
from espalier.planning._request import Request, bytes_limit, macs_limit
from espalier.sets import Alone, Coupled, Product, Shared


def beside(
    others: Mapping[str, budgets.Layer],
    request: Request,
    keep: Mapping[str, Keep | float],
    costs: LayerCosts,
    model: nn.Module,
) -> tuple[dict[str, Alone], Shared | None]:
    """What each may keep: the density, or the fraction of the MACs, that is asked of the whole model.

    Args:
        others: The tensors, by name.
        request: The figure, and the rule that shares it among them.
        keep: The keeps of the request by the names of ``others``' own tensors; more are ignored.
        costs: Of the dense model.
        model: The dense model.

    Returns:
        The tensors, and the budget they share if the rule makes one; then their keeps are the smallest.

    Raises:
        BudgetError: What the rule refuses, or MACs of a shared budget: they follow the weights.
    """
    if not others:
        return {}, None
    keeps: dict[str, Keep] | Shared
    if request.keep is not None:
        keeps = budgets.explicit(others, {p: k for p, k in keep.items() if matching(p, others)})
    else:
        # Of several budgets the tightest.
        parts = [1.0 if request.density is None else request.density]
        if request.macs is not None:
            parts.append(macs_limit(request.macs, costs) / max(1, costs.total))
        if request.bytes is not None:
            dense = model_bytes(model).dense
            parts.append(bytes_limit(request.bytes, dense) / max(1, dense))
        keeps = request.allocation(others, min(parts))
        if isinstance(keeps, Shared) and request.macs is not None:
            raise BudgetError(
                "the MACs that a shared budget leaves follow the weights, so no widths of the other "
                "layers can meet macs=; give density=, or allocation=budgets.uniform"
            )
    shared = keeps if isinstance(keeps, Shared) else None
    if isinstance(keeps, Shared):
        keeps = {name: layer.least for name, layer in others.items()}
    alone = {n: Alone(n, others[n].shape, others[n].set, k) for n, k in keeps.items()}
    return alone, shared


def at_hand(
    alone: Mapping[str, Alone], shared: Shared, coupled: Coupled, model: nn.Module
) -> dict[str, Alone]:
    """With the keeps that a shared budget leaves the weights as they are, for information."""
    weights = {name: p.detach() for name, p in model.named_parameters()}
    shapes = {name: tuple(weights[name].shape) for name in (*coupled.names, *shared.names)}
    if any(weights[name].is_meta for name in shapes):
        raise BudgetError("no values to rank (meta device?); give a model with weights")
    masks = Product(parts=(coupled, shared), shapes=shapes).support(weights)
    sizes = {name: one.set.nonzeros(one.shape, 1) for name, one in alone.items()}
    return {
        name: replace(one, keep=int(torch.count_nonzero(masks[name])) // sizes[name])
        for name, one in alone.items()
    }
