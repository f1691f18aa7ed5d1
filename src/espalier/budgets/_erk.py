"""Erdős–Rényi-Kernel: wide tensors become sparser than narrow ones."""

from collections.abc import Mapping
from math import ceil

from espalier._ground.types import Keep
from espalier.budgets._layer import Layer, check_density, check_total


def erk(layers: Mapping[str, Layer], density: float) -> dict[str, Keep]:
    r"""Density of a tensor in proportion to the sum of its dimensions over their product.

    .. math:: d_l = \varepsilon \, \frac{O + I + k_h + k_w}{O \cdot I \cdot k_h \cdot k_w},
              \qquad \sum_l d_l n_l = d \sum_l n_l

    Tensors whose :math:`d_l` would pass the largest their set allows are held there, and ε is
    solved again for the others. The total is then corrected unit by unit, so that for
    ``Unstructured`` it is the asked count exactly; where units are larger, to within half a unit.

    Args:
        layers: the tensors, by name.
        density: fraction of all their weights together that may stay, in (0, 1].

    Returns:
        Keep by name, at least one unit each.

    Raises:
        BudgetError: density outside (0, 1], or one unit of every tensor is already too much.

    Source: Evci et al. 2020, "Rigging the Lottery", §3; capping as in their ``get_mask_random``.

    Example:
        >>> from espalier.sets import Unstructured
        >>> shapes = {"fc1": (100, 100), "fc2": (10, 100)}
        >>> layers = {n: Layer(shape=s, set=Unstructured()) for n, s in shapes.items()}
        >>> erk(layers, 0.1)
        {'fc1': 710, 'fc2': 390}
    """
    check_density(layers, density)
    asked = round(density * sum(layer.numel for layer in layers.values()))
    check_total(layers, asked, density)
    most = {name: layer.nonzeros(layer.most) for name, layer in layers.items()}
    free = dict.fromkeys(layers, 0.0)
    held: dict[str, float] = {}
    # A tensor cannot have more weights than it has. Those that would are held dense and the rest
    # is shared anew, which can push others over, so until none is. At least one leaves in each
    # round.
    while free:
        rest = max(0.0, asked - sum(held.values()))
        scale = sum(sum(layers[name].shape) for name in free)
        free = {name: rest * sum(layers[name].shape) / scale for name in free}
        over = [name for name, wanted in free.items() if wanted > most[name]]
        if not over:
            break
        for name in over:
            held[name] = float(most[name])
            del free[name]
    return exactly(layers, held | free, asked)


def exactly(
    layers: Mapping[str, Layer], wanted: Mapping[str, float], asked: int
) -> dict[str, Keep]:
    """Keeps nearest to the ``wanted`` nonzeros of each tensor, whose sum is nearest to ``asked``.

    Unit by unit, where it hurts least: the tensor that is furthest behind what it wanted (in its
    own units) gets one more, the one furthest ahead gives one back. Pair keeps stay as rounded.
    """
    keeps = {
        name: layer.set.keep_for(layer.shape, min(1.0, wanted[name] / layer.numel))
        for name, layer in layers.items()
    }
    sizes = {n: size for n, layer in layers.items() if (size := layer.unit_nonzeros) is not None}
    gap = asked - sum(layers[name].nonzeros(keep) for name, keep in keeps.items())
    while True:
        sign = 1 if gap > 0 else -1
        movable = [
            name
            for name, size in sizes.items()
            # A step of this size brings the sum nearer only if it is less than twice the gap; so
            # the gap falls with every step, and the loop ends.
            if size < 2 * abs(gap) and keeps[name] != (layers[name].most if sign > 0 else 1)
        ]
        if not movable:
            return keeps

        def behind(name: str, sign: int = sign) -> float:
            layer, size = layers[name], sizes[name]
            return sign * (wanted[name] - layer.nonzeros(keeps[name])) / size

        name = max(movable, key=behind)
        # Many at once only when the roundings cannot explain the gap: all tensors are at a bound.
        step = max(1, min(ceil(behind(name)), abs(gap) // sizes[name]))
        count = keeps[name]
        assert isinstance(count, int)
        most = layers[name].most
        assert isinstance(most, int)
        keeps[name] = min(most, count + step) if sign > 0 else max(1, count - step)
        gap = asked - sum(layers[n].nonzeros(keep) for n, keep in keeps.items())
