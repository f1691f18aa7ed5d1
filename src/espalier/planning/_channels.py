"""Plans that take whole channels out of a model."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import floor

from torch import nn

from espalier._ground.types import Keep
from espalier.errors import BudgetError
from espalier.graph import channel_graph
from espalier.measure import Example, LayerCosts
from espalier.planning._couple import Coupling, couple, is_structured
from espalier.planning._entry import Entry, Skipped, with_macs
from espalier.planning._plan import Plan
from espalier.planning._select import Selection
from espalier.planning._widths import Cost, explicit, for_cost, steps
from espalier.sets import Channels, Coupled, Filters, FiltersAndColumns, Set, Unstructured


@dataclass(frozen=True, kw_only=True)
class Request:
    """One of three figures, and what widths are allowed."""

    density: float | None
    macs: float | int | None
    keep: Mapping[str, Keep | float] | None
    multiple: int
    minimum: int


def macs_limit(macs: float | int, costs: LayerCosts) -> int:
    """A float in (0, 1] is a fraction of the dense MACs, anything else a number of them."""
    is_fraction = isinstance(macs, float) and macs <= 1.0
    return floor(macs * costs.total) if is_fraction else floor(macs)


def plan_channels(
    model: nn.Module, chosen: Selection, request: Request, costs: LayerCosts, example: Example
) -> Plan:
    """The plan that meets a request by the widths of coupled channels.

    Raises:
        BudgetError: Nothing can go, tensors that are not pruned by channels, or what cannot be met.
        RequestError: The model cannot be exported.
    """
    others = [name for name, which in chosen.sets.items() if not is_structured(which)]
    if others:
        raise BudgetError(
            f"{others[0]} is to be pruned by {chosen.sets[others[0]].name} and other weights by "
            "channels, which are coupled; exclude it, or leave example_input= out to prune every "
            "tensor by itself"
        )
    graph = channel_graph(model, example)
    coupling = couple(model, graph, chosen)
    if coupling.coupled is None:
        why = "; ".join(f"{name}: {reason}" for name, reason in list(coupling.reasons.items())[:3])
        raise BudgetError(f"no channel can go: {why or 'no weight creates one'}")
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    coupled = _allot(coupling, request, chosen, costs, shapes)
    notes = [*costs.warnings]
    notes += [
        f"{op} in {at or 'the model itself'} is not understood: what it touches stays"
        for op, at in graph.unknown.items()
    ]
    return Plan(
        entries={
            name: _entry(name, coupled, shapes[name], chosen, costs) for name in coupled.members
        },
        coupled=coupled,
        skipped=_skipped(coupling, coupled, chosen, costs, shapes),
        between_activations=costs.between_activations,
        notes=tuple(notes),
    )


def _allot(
    coupling: Coupling,
    request: Request,
    chosen: Selection,
    costs: LayerCosts,
    shapes: Mapping[str, tuple[int, ...]],
) -> Coupled:
    assert coupling.coupled is not None
    if request.keep is not None:
        return explicit(coupling, _of_known(request.keep, coupling, chosen), shapes)
    if request.macs is not None:
        dense = {name: cost.macs for name, cost in costs.items()}
        limit, fixed, what = macs_limit(request.macs, costs), costs.between_activations, "macs"
    else:
        assert request.density is not None
        numel = {name: cost.numel for name, cost in costs.items() if name in chosen.sets}
        dense, fixed, what = numel, 0, "weights"
        limit = round(request.density * sum(numel.values()))
    columns = [
        name
        for name, along in coupling.coupled.members.items()
        if along.axis == 0 and isinstance(chosen.sets.get(name), FiltersAndColumns)
    ]
    cost = Cost(coupling.coupled, dense, shapes, fixed, columns)
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


def _along(axis: int, shape: tuple[int, ...]) -> Set:
    """What a tensor loses along an axis: entries of a bias, γ or β, else filters or channels."""
    if len(shape) == 1:
        return Unstructured()
    return Filters() if axis == 0 else Channels()


def _skipped(
    coupling: Coupling,
    coupled: Coupled,
    chosen: Selection,
    costs: LayerCosts,
    shapes: Mapping[str, tuple[int, ...]],
) -> tuple[Skipped, ...]:
    rows = [row for row in chosen.skipped if row.name not in coupled.members]
    for name in chosen.sets:
        if name not in coupled.members:
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
