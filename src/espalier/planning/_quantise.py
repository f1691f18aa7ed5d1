"""How many bits each parameter gets, and the constraint that quantises a pruned model."""

from collections.abc import Mapping

from torch import nn

from espalier.budgets._patterns import assign, is_glob
from espalier.errors import RequestError
from espalier.measure import LayerKind, layer_kinds
from espalier.sets import Levels, OnLevels, Within
from espalier.sets._naming import named

Bits = int | Mapping[str, int]
"""One count of bits for all tensors, or by name."""


def quantise_plan(model: nn.Module, bits: Bits) -> OnLevels:
    """What quantises a pruned model: its nonzeros go on levels, its zeros stay.

    It takes the place of a plan: ``Pruning(model, quantise_plan(model, 3), ADMM(), settle=None)`` trains the
    weights towards their levels and ``hard_prune_()`` puts them there. The zeros are held from the first
    step.

    Args:
        model: Pruned already, or dense; its zeros are read now.
        bits: log₂ of the number of levels, from 1 (±q) to 16. One count for the weights of all
            convolutions and linear layers; or a count by name or glob. A glob selects among those
            weights, a full name whatever it names, biases included; what is not named stays as it is.

    Returns:
        ``OnLevels(Within(masks), levels)``, names in the model's order.

    Raises:
        UnknownNameError: A name or glob that matches nothing.
        RequestError: A count outside 1 to 16, or nothing to quantise.

    Example:
        >>> import torch
        >>> model = nn.Linear(3, 2)
        >>> with torch.no_grad():
        ...     _ = model.weight.copy_(torch.tensor([[0.0, 1.0, 3.0], [-1.0, 0.0, 2.0]]))
        >>> quantisation = quantise_plan(model, bits=1)
        >>> quantisation.project(dict(model.named_parameters()))["weight"]
        tensor([[ 0.0000,  1.7500,  1.7500], [-1.7500,  0.0000,  1.7500]])
        >>> quantisation.data_bits
        4
    """
    chosen = levels_for(bits, layer_kinds(model))
    if not chosen:
        raise RequestError("nothing to quantise; name the parameters: bits={'fc.weight': 4}")
    parameters = dict(model.named_parameters())
    masks = {name: parameters[name].detach() != 0 for name in chosen}
    return OnLevels(Within(masks), chosen)


def levels_for(bits: Bits, kinds: Mapping[str, LayerKind]) -> dict[str, Levels]:
    """Levels by parameter name, in the order of ``kinds``; names and globs as for ``quantise_plan``."""
    weights = [name for name, kind in kinds.items() if kind.is_conv or kind.is_linear]
    if isinstance(bits, int):
        return _levels(dict.fromkeys(weights, bits))
    globs = {pattern: n for pattern, n in bits.items() if is_glob(pattern)}
    full = {name: n for name, n in bits.items() if not is_glob(name)}
    both = _levels(assign(globs, weights, "bits")) | _levels(assign(full, list(kinds), "bits"))
    return {name: both[name] for name in kinds if name in both}


def _levels(bits: Mapping[str, int]) -> dict[str, Levels]:
    found = {}
    for name, count in bits.items():
        with named(name):
            found[name] = Levels(count)
    return found
