"""Keeps as a global ranking of today's weights gives them."""

from collections.abc import Mapping

import torch

from espalier._ground.types import Keep
from espalier.budgets._layer import Layer
from espalier.budgets._shared import shared
from espalier.errors import BudgetError
from espalier.sets import Shared


def global_magnitude(layers: Mapping[str, Layer], density: float) -> dict[str, Keep]:
    r"""How many units of each tensor are among the largest of all tensors together, now.

    .. math:: k_l = \#\bigl\{u \in l : u \in \operatorname{top}_K \bigcup_l \{\|w_{l,u}\|^2 / c_l\}\bigr\}

    For ``Unstructured`` the K largest :math:`|w|`; for larger units energy per weight. At least one
    unit stays in each tensor. The counts are taken once and then fixed; for a ranking that lives on
    during training, see :func:`~espalier.budgets._shared`.

    Args:
        layers: the tensors, by name, with their weights; all of one set.
        density: fraction of all their weights together that may stay, in (0, 1].

    Raises:
        BudgetError: no weights (meta device), several sets, or an impossible density.
        NonFiniteError: NaN or infinity in a weight.

    Example:
        >>> from espalier.sets import Unstructured
        >>> a, b = torch.tensor([[5.0, 4.0]]), torch.tensor([[3.0, 1.0]])
        >>> layers = {n: Layer(shape=(1, 2), set=Unstructured(), weight=w)
        ...           for n, w in (("a", a), ("b", b))}
        >>> global_magnitude(layers, 0.75)
        {'a': 2, 'b': 1}
    """
    return units_kept(shared(layers, density), layers)


def units_kept(budget: Shared, layers: Mapping[str, Layer]) -> dict[str, Keep]:
    """How many units of each tensor a shared budget leaves, for the weights as they are."""
    weights = {}
    for name, layer in layers.items():
        if layer.weight is None or layer.weight.is_meta:
            raise BudgetError(
                f"{name}: no values to rank (meta device?); give a model with weights, "
                "or use budgets.uniform or budgets.erk"
            )
        weights[name] = layer.weight
    masks = budget.support(weights)
    sizes = {name: layer.unit_nonzeros or 1 for name, layer in layers.items()}
    return {name: int(torch.count_nonzero(m)) // sizes[name] for name, m in masks.items()}
