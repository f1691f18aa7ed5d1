"""Units that run through several tensors, as a method sees them through a constraint."""

import torch
from torch import Tensor, nn

from espalier._ground.types import Masks
from espalier.planning import Plan
from espalier.sets import Constraint, Coupled, Product
from espalier.sets._along import spread


def coupled_parts(constraint: Constraint) -> tuple[Coupled, ...]:
    """The coupled parts of a plan or a product; none of any other constraint."""
    product = constraint.constraint if isinstance(constraint, Plan) else constraint
    parts = product.parts if isinstance(product, Product) else ()
    return tuple(part for part in parts if isinstance(part, Coupled))


def already_zero(model: nn.Module, free: Masks) -> bool:
    """Whether every weight that is not free is zero as it is."""
    return not any(bool((model.get_parameter(n) * ~m).any()) for n, m in free.items())


def vectors_follow(constraint: Constraint, masks: Masks) -> dict[str, Tensor]:
    """Masks in which biases, γ and β of a unit go as soon as the unit has lost all its weights.

    Args:
        constraint: Whose units.
        masks: Of all its parameters; True stays.
    """
    found = dict(masks)
    for part in coupled_parts(constraint):
        weights = {
            n: masks[n] if masks[n].dim() > 1 else torch.zeros_like(masks[n]) for n in part.names
        }
        occupied = part.occupied(weights)
        for name in part.names:
            if masks[name].dim() == 1:
                follows = spread(part.members[name], occupied, masks[name].shape)
                found[name] = masks[name] & follows
    return found
