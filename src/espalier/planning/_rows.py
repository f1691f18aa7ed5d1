"""The rows of a plan with coupled channels."""

from collections.abc import Mapping
from dataclasses import replace

from espalier.measure import LayerCosts
from espalier.planning._entry import Entry, Skipped, with_macs
from espalier.planning._select import Selection
from espalier.sets import Alone, Channels, Coupled, Filters, FiltersAndColumns, Set, Unstructured

Shapes = Mapping[str, tuple[int, ...]]


def of_coupled(
    name: str, coupled: Coupled, shape: tuple[int, ...], chosen: Selection, costs: LayerCosts
) -> Entry:
    """The row of a tensor through which units run."""
    columns = coupled.columns.get(name)
    along = _along(coupled.members[name].axis, shape)
    single = isinstance(along, Unstructured)
    kept = coupled.left(name, shape) if single else coupled.kept(coupled.members[name])
    return Entry(
        name=name,
        shape=shape,
        set=along if columns is None else FiltersAndColumns(),
        keep=kept if columns is None else (kept, columns),
        layer_kind=chosen.owners[name].kind,
        macs=costs[name].macs if name in costs else 0,
    )


def of_alone(one: Alone, chosen: Selection, costs: LayerCosts) -> Entry:
    """The row of a tensor that is pruned by itself."""
    return Entry(
        name=one.name,
        shape=one.shape,
        set=one.set,
        keep=one.keep,
        layer_kind=chosen.owners[one.name].kind,
        macs=costs[one.name].macs if one.name in costs else 0,
    )


def left_dense(
    entries: Mapping[str, Entry],
    coupled: Coupled,
    reasons: Mapping[str, str],
    chosen: Selection,
    costs: LayerCosts,
    shapes: Shapes,
) -> tuple[Skipped, ...]:
    """The rows of all other parameters, in the model's order, with what channels that go take along."""
    rows = [row for row in chosen.skipped if row.name not in entries]
    for name in chosen.sets:
        if name not in entries:
            reason = reasons.get(name, "nothing in it can go")
            kind = chosen.owners[name].kind
            rows.append(Skipped(name=name, shape=shapes[name], reason=reason, layer_kind=kind))
    order = {name: place for place, name in enumerate(shapes)}
    rows.sort(key=lambda row: order.get(row.name, len(order)))
    return tuple(
        replace(with_macs(row, costs), left=coupled.left(row.name, row.shape))
        if row.name in coupled.implied
        else with_macs(row, costs)
        for row in rows
    )


def _along(axis: int, shape: tuple[int, ...]) -> Set:
    """What a tensor loses along an axis: entries of a bias, γ or β, of (1, n, C), else filters or channels."""
    if len(shape) == 1 or axis > 1:
        return Unstructured()
    return Filters() if axis == 0 else Channels()
