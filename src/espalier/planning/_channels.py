"""Plans that take whole channels out of a model, and prune other tensors by themselves."""

from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from espalier import budgets
from espalier._ground.example import Example
from espalier._ground.types import Keep
from espalier.budgets._patterns import matching
from espalier.errors import BudgetError
from espalier.graph import channel_graph
from espalier.measure import LayerCosts
from espalier.planning._beside import at_hand, beside
from espalier.planning._couple import Coupling, couple, is_structured
from espalier.planning._entry import Entry, Skipped, with_macs
from espalier.planning._plan import Plan
from espalier.planning._request import Request, macs_limit
from espalier.planning._select import Selection
from espalier.planning._widths import Cost, explicit, for_cost, steps
from espalier.sets import (
    Alone,
    Channels,
    Coupled,
    Filters,
    FiltersAndColumns,
    Set,
    Unstructured,
)


def plan_channels(
    model: nn.Module,
    chosen: Selection,
    layers: Mapping[str, budgets.Layer],
    request: Request,
    costs: LayerCosts,
    example: Example,
) -> Plan:
    """The plan that meets a request by the widths of coupled channels; other sets are pruned alone.

    A tensor that is pruned alone may lose slices besides, with the channels it reads: what is counted of it
    is what its keep leaves of the weights that are then alive.

    Raises:
        BudgetError: Nothing can go, or what cannot be met.
        RequestError: The model cannot be exported.
    """
    others = {name: layer for name, layer in layers.items() if not is_structured(layer.set)}
    if request.allocation is not budgets.uniform and not others:
        raise BudgetError(
            "coupled channels are allotted by keep= or one fraction of every layer; leave "
            "allocation= out, or example_input= to prune every tensor by itself"
        )
    graph = channel_graph(model, example)
    coupling = couple(model, graph, chosen)
    if coupling.coupled is None:
        why = "; ".join(f"{name}: {reason}" for name, reason in list(coupling.reasons.items())[:3])
        raise BudgetError(f"no channel can go: {why or 'no weight creates one'}")
    for name in others:
        if name in coupling.coupled.members:
            raise BudgetError(
                f"{name} goes with the channels of its layer, so it has no set of its own; leave it out"
            )
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    keep = _of_known(request.keep or {}, coupling, chosen)
    alone, shared = beside(others, request, keep, costs)
    coupled = _allot(coupling, request, keep, chosen, costs, shapes, alone)
    if shared is not None:
        alone = at_hand(alone, shared, coupled, model)
    entries = {name: _entry(name, coupled, shapes[name], chosen, costs) for name in coupled.members}
    entries |= {name: _alone_entry(one, chosen, costs) for name, one in alone.items()}
    notes = [*costs.warnings]
    notes += [
        f"{op} in {at or 'the model itself'} is not understood: what it touches stays"
        for op, at in graph.unknown.items()
    ]
    return Plan(
        entries={name: entries[name] for name in shapes if name in entries},
        parts=(coupled,) if shared is None else (coupled, shared),
        skipped=_skipped(entries, coupling, coupled, chosen, costs, shapes),
        between_activations=costs.between_activations,
        notes=tuple(notes),
    )


def _allot(
    coupling: Coupling,
    request: Request,
    keep: Mapping[str, Keep | float],
    chosen: Selection,
    costs: LayerCosts,
    shapes: Mapping[str, tuple[int, ...]],
    alone: Mapping[str, Alone],
) -> Coupled:
    assert coupling.coupled is not None
    if request.keep is not None:
        # A pattern may be for tensors that are pruned alone, and for them only.
        mine = {
            p: k for p, k in keep.items() if matching(p, coupling.widths) or not matching(p, alone)
        }
        return explicit(coupling, mine, shapes)
    if request.macs is not None:
        dense = {name: cost.macs for name, cost in costs.items()}
        limit, fixed, what = macs_limit(request.macs, costs), costs.between_activations, "macs"
    else:
        assert request.density is not None
        own = chosen.sets.keys() - alone.keys()
        numel = {name: cost.numel for name, cost in costs.items() if name in own}
        dense, fixed, what = numel, 0, "weights"
        limit = round(request.density * sum(numel.values()))
    columns = [
        name
        for name, along in coupling.coupled.members.items()
        if along.axis == 0 and isinstance(chosen.sets.get(name), FiltersAndColumns)
    ]
    cost = Cost(coupling.coupled, dense, shapes, fixed, columns, alone)
    allowed = steps(coupling, request.multiple, request.minimum)
    return for_cost(cost, coupling.coupled, allowed, limit, what)


def _of_known(
    keep: Mapping[str, Keep | float], coupling: Coupling, chosen: Selection
) -> dict[str, Keep | float]:
    """The keeps by the first names of shared tensors; one that names what cannot go is refused."""
    first = {alias: name for name, owner in chosen.owners.items() for alias in owner.aliases}
    renamed = {first.get(pattern, pattern): value for pattern, value in keep.items()}
    for name in renamed:
        if name in coupling.reasons:
            raise BudgetError(f"{name}: {coupling.reasons[name]}; leave it out of keep=")
    return renamed


def _entry(
    name: str,
    coupled: Coupled,
    shape: tuple[int, ...],
    chosen: Selection,
    costs: LayerCosts,
) -> Entry:
    kept, owner = coupled.kept(coupled.members[name]), chosen.owners[name]
    which: Set = _along(coupled.members[name].axis, shape)
    columns = coupled.columns.get(name)
    if columns is not None:
        which = FiltersAndColumns()
    return Entry(
        name=name,
        shape=shape,
        set=which,
        keep=kept if columns is None else (kept, columns),
        layer_kind=owner.kind,
        macs=costs[name].macs if name in costs else 0,
    )


def _alone_entry(one: Alone, chosen: Selection, costs: LayerCosts) -> Entry:
    return Entry(
        name=one.name,
        shape=one.shape,
        set=one.set,
        keep=one.keep,
        layer_kind=chosen.owners[one.name].kind,
        macs=costs[one.name].macs if one.name in costs else 0,
    )


def _along(axis: int, shape: tuple[int, ...]) -> Set:
    """What a tensor loses along an axis: entries of a bias, γ or β, else filters or channels."""
    if len(shape) == 1:
        return Unstructured()
    return Filters() if axis == 0 else Channels()


def _skipped(
    entries: Mapping[str, Entry],
    coupling: Coupling,
    coupled: Coupled,
    chosen: Selection,
    costs: LayerCosts,
    shapes: Mapping[str, tuple[int, ...]],
) -> tuple[Skipped, ...]:
    rows = [row for row in chosen.skipped if row.name not in entries]
    for name in chosen.sets:
        if name not in entries:
            reason = coupling.reasons.get(name, "nothing in it can go")
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
