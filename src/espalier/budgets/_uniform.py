"""The same density in every tensor."""

from collections.abc import Mapping

from espalier._ground.types import Keep
from espalier.budgets._layer import Layer, check_density, up
from espalier.errors import BudgetError


def uniform(layers: Mapping[str, Layer], density: float) -> dict[str, Keep]:
    r"""Every tensor keeps the same fraction of its weights, to the nearest unit.

    .. math:: k_l = \max(1, \operatorname{round}(d \cdot n_l))

    The total differs from the asked one by these roundings: that is what "p = 0.9 in every layer"
    means in the papers. Where even one unit is more than twice what is asked, the request is
    refused rather than quietly missed.

    Args:
        layers: the tensors, by name.
        density: fraction of the weights of each that may stay, in (0, 1].

    Returns:
        Keep by name, a count of units.

    Raises:
        BudgetError: density outside (0, 1], or below half a unit of a tensor.

    Example:
        >>> from espalier.sets import Unstructured
        >>> uniform({"conv1": Layer(shape=(20, 1, 5, 5), set=Unstructured())}, 0.2)
        {'conv1': 100}
    """
    check_density(layers, density)
    keeps = {}
    for name, layer in layers.items():
        keep = layer.set.keep_for(layer.shape, density)
        if layer.nonzeros(keep) > 2 * density * layer.numel and keep == layer.least:
            lowest = layer.nonzeros(keep) / (2 * layer.numel)
            raise BudgetError(
                f"{name}: density={density:g} is less than half of one of its {layer.most} "
                f"{layer.set.unit}; give density in [{up(lowest)}, 1], or leave it out "
                "with exclude="
            )
        keeps[name] = keep
    return keeps
