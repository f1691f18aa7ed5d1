"""Keeps that leave a given number of multiply-accumulates."""

from collections.abc import Callable, Mapping

from espalier._ground.types import Keep
from espalier.budgets._layer import Layer
from espalier.budgets._uniform import uniform
from espalier.errors import BudgetError


def for_macs(
    layers: Mapping[str, Layer],
    limit: int,
    *,
    fixed: int = 0,
    rule: Callable[[Mapping[str, Layer], float], dict[str, Keep]] = uniform,
) -> dict[str, Keep]:
    r"""The largest density, allotted by ``rule``, that leaves at most ``limit`` MACs.

    .. math:: \max d \quad\text{s.t.}\quad
              F + \sum_l \text{MACs}_l \, \frac{\text{nonzeros}_l(k_l(d))}{n_l} \le L

    The density is found by bisection; what the roundings leave is then spent on single units, the
    dearest that fit first, until not one more unit of any tensor fits.

    Args:
        layers: the tensors, by name; every one needs its ``macs``.
        limit: L, MACs for one sample that may be left, ``fixed`` included.
        fixed: F, MACs that no keep changes: other layers, products of two activations.
        rule: from a density to keeps.

    Returns:
        Keep by name, at least one unit each. Within one unit of the limit, from below.

    Raises:
        BudgetError: a tensor without MACs, or a limit that cannot be met.

    Example:
        >>> from espalier.sets import Unstructured
        >>> fc = Layer(shape=(10, 10), set=Unstructured(), macs=100)
        >>> for_macs({"fc": fc}, 60, fixed=25)
        {'fc': 35}
    """
    keeps: dict[str, Keep] = {name: layer.least for name, layer in layers.items()}
    _check(layers, keeps, limit, fixed)
    low, high = 0.0, 1.0
    # Half a weight of all there are; what is finer is left to the spending of single units.
    resolution = 0.5 / sum(layer.numel for layer in layers.values())
    density = high
    while high - low > resolution:
        try:
            tried = rule(layers, density)
            fits = fixed + _left(layers, tried) <= limit
        except BudgetError:  # too low for the rule: one unit of each is the floor
            fits, tried = True, keeps
        if fits:
            keeps, low = tried, density
        else:
            high = density
        if low >= 1.0:
            break
        density = (low + high) / 2
    return _spend(layers, keeps, limit - fixed)


def _check(layers: Mapping[str, Layer], least: dict[str, Keep], limit: int, fixed: int) -> None:
    if not layers:
        raise BudgetError("no tensors to share the MACs; select at least one")
    for name, layer in layers.items():
        if layer.macs is None:
            raise BudgetError(f"{name}: its MACs are not known; give example_input=")
    floor = fixed + _left(layers, least)
    if limit < floor:
        dense = fixed + sum(layer.macs or 0 for layer in layers.values())
        dearest = max(layers, key=lambda name: layers[name].macs_at(least[name]))
        raise BudgetError(
            f"macs={limit:,} cannot be met: {fixed:,} are in what is not pruned and one unit of "
            f"every tensor leaves {floor:,} (most of it {dearest}: "
            f"{layers[dearest].macs_at(least[dearest]):,}); give {floor:,} <= macs <= {dense:,}"
        )


def _left(layers: Mapping[str, Layer], keeps: Mapping[str, Keep]) -> int:
    return sum(layers[name].macs_at(keep) for name, keep in keeps.items())


def _spend(layers: Mapping[str, Layer], keeps: dict[str, Keep], limit: int) -> dict[str, Keep]:
    """Single units until no unit fits; sets whose keep is a pair stay as they are."""
    keeps = dict(keeps)
    costs = {}
    for name, layer in layers.items():
        if (size := layer.unit_nonzeros) is not None and layer.macs:
            costs[name] = -(-layer.macs * size // layer.numel)
    # The dearest first: what they leave over, cheaper units can still use, not the other way
    # round.
    for name in sorted(costs, key=costs.__getitem__, reverse=True):
        count, most = keeps[name], layers[name].most
        assert isinstance(count, int)
        assert isinstance(most, int)
        spare = limit - _left(layers, keeps)
        keeps[name] = min(most, count + max(0, spare) // costs[name])
    return keeps
