"""One budget for all tensors, decided anew at every projection: their units compete."""

from collections.abc import Mapping

from espalier.budgets._layer import Layer, check_density, check_total
from espalier.errors import BudgetError
from espalier.sets import GroupSet, Shared


def shared(layers: Mapping[str, Layer], density: float) -> Shared:
    r"""A limit on the weights of all tensors together, at least one unit in each.

    .. math:: \sum_l \|z_l\|_0 \le \operatorname{round}\Bigl(d \sum_l n_l\Bigr)

    Args:
        layers: the tensors, by name; all of one set.
        density: fraction of all their weights together that may stay, in (0, 1].

    Raises:
        BudgetError: density outside (0, 1], several sets, a set whose keep is a pair, or one unit of
            every tensor is already too much.

    Example:
        >>> from espalier.sets import Filters
        >>> shared({"a": Layer(shape=(4, 8), set=Filters())}, 0.5)
        Shared(set=Filters(), costs={'a': 8}, limit=16, minimum=1)
    """
    check_density(layers, density)
    asked = round(density * sum(layer.numel for layer in layers.values()))
    check_total(layers, asked, density)
    only = one_set(layers)
    return Shared(only, {name: _size(layer) for name, layer in layers.items()}, asked)


def shared_macs(layers: Mapping[str, Layer], limit: int, *, fixed: int = 0) -> Shared:
    r"""A limit on the multiply-accumulates of all tensors together, at least one unit in each.

    .. math:: F + \sum_l c_l \cdot \#\{u : z_{l,u} \ne 0\} \le L, \qquad
              c_l = \lceil \text{MACs of one unit} \rceil

    Args:
        layers: the tensors, by name; all of one set, all with ``macs``.
        limit: L, MACs for one sample that may be left, ``fixed`` included.
        fixed: F, MACs that no keep changes.

    Raises:
        BudgetError: a tensor without MACs, several sets, or a limit that cannot be met.
    """
    if not layers:
        raise BudgetError("no tensors to share the MACs; select at least one")
    only, costs = one_set(layers), {}
    for name, layer in layers.items():
        if layer.macs is None:
            raise BudgetError(f"{name}: its MACs are not known; give example_input=")
        # Rounded up: what the units cost together is never less than the MACs they execute.
        costs[name] = max(1, -(-layer.macs * _size(layer) // layer.numel))
    floor, dense = fixed + sum(costs.values()), fixed + sum(x.macs or 0 for x in layers.values())
    if limit < floor:
        dearest = max(costs, key=costs.__getitem__)
        raise BudgetError(
            f"macs={limit:,} cannot be met: {fixed:,} are in what is not pruned and one unit of "
            f"every tensor leaves {floor:,} (most of it {dearest}: {costs[dearest]:,}); "
            f"give {floor:,} <= macs <= {dense:,}"
        )
    return Shared(only, costs, limit - fixed)


def one_set(layers: Mapping[str, Layer]) -> GroupSet:
    """The set that all tensors have, with units that can be compared."""
    (first, layer), *rest = layers.items()
    for name, other in rest:
        if other.set != layer.set:
            raise BudgetError(
                f"{name} has {other.set} and {first} has {layer.set}: units compete for one budget "
                "only within one set; use allocation=budgets.uniform or budgets.erk"
            )
    if not isinstance(layer.set, GroupSet):
        raise BudgetError(
            f"{first}: the keep of {layer.set} is no single count, so its units cannot compete; "
            "use allocation=budgets.uniform"
        )
    return layer.set


def _size(layer: Layer) -> int:
    size = layer.unit_nonzeros
    assert size is not None  # one_set refuses the others
    return size
