"""Plans that take whole channels out of a model: chosen, rehearsed, and chosen anew."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from torch import nn

from espalier import budgets
from espalier._ground.example import Example
from espalier.compaction import Rehearsal, rehearse
from espalier.errors import BudgetError, RequestError, RunError
from espalier.graph import ChannelGraph, channel_graph
from espalier.measure import LayerCosts
from espalier.planning._allotment import Allotter
from espalier.planning._attempt import Asked, Attempt, attempt
from espalier.planning._couple import is_structured
from espalier.planning._plan import Plan
from espalier.planning._ranking import Ranking
from espalier.planning._request import Request
from espalier.planning._select import Selection

_CORRECTIONS = 8
"""How often a limit is moved by what a rehearsal measured."""


def plan_channels(
    model: nn.Module,
    chosen: Selection,
    layers: Mapping[str, budgets.Layer],
    request: Request,
    costs: LayerCosts,
    example: Example,
) -> Plan:
    """The plan that meets a request by the widths of coupled channels; other sets are pruned alone.

    Compaction is rehearsed at the widths chosen. What it keeps back is frozen and the widths are chosen
    anew, until it keeps nothing back; where the compact model costs other than estimated, the limit is
    moved by the difference. So what the plan promises was measured of a compact model.

    A tensor that is pruned alone may lose slices besides, with the channels it reads: what is counted of it
    is what its keep leaves of the weights that are then alive.

    Raises:
        BudgetError: Nothing can go, or what cannot be met.
        RequestError: The model cannot be exported.
    """
    others = {name: layer for name, layer in layers.items() if not is_structured(layer.set)}
    asked = Asked(
        model=model, chosen=chosen, others=others, request=_allotted(request, bool(others)),
        costs=costs, example=example,
    )  # fmt: skip
    graph = channel_graph(model, example)
    held: dict[str, int] = {}
    shift: dict[str, int] = {}
    best: Plan | None = None
    corrections = 0
    while True:
        unmet: BudgetError | None = None
        try:
            one = attempt(asked, graph, shift, "; ".join(_notes(held)))
        except BudgetError as error:
            # The least that can be reached is known once the smallest widths have been rehearsed.
            one, unmet = attempt(asked, graph, shift, "", least=True), error
        seen = _rehearsed(one)
        if unmet is not None and not (isinstance(seen, Rehearsal) and seen.kept_back):
            raise unmet
        if not isinstance(seen, Rehearsal):
            return one.plan((*_notes(held), *([seen] if seen else [])))
        if seen.kept_back:
            graph = _frozen(graph, seen.kept_back, held)
            best, shift = None, {}
            continue
        made = one.plan(_notes(held), seen.model)
        over = one.overdrawn(made)
        if one.within(over):
            if best is None or (made.macs_left or 0) > (best.macs_left or 0):
                best = made
            # Where the estimate, as corrected, is what was measured, no wider widths would fit.
            if all(by == shift.get(what, 0) for what, by in over.items()):
                return made
        corrections += 1
        if corrections > _CORRECTIONS:
            break
        shift = over
    if best is None:
        raise BudgetError(
            "no widths were found whose compact model keeps within what is asked: the last measured "
            f"{made.macs_left:,} MACs; give more"
        )
    return best


def _allotted(request: Request, others: bool) -> Request:
    """The request with a ranking in place of its name, for what coupled channels understand."""
    rule = request.allocation
    if rule is budgets.global_magnitude:
        return replace(request, allocation=Ranking())
    if rule is budgets.uniform or isinstance(rule, Ranking | Allotter) or others:
        return request
    raise BudgetError(
        "coupled channels are allotted by keep=, by one fraction of every group, or by a ranking of all "
        "(budgets.global_magnitude, planning.Ranking), or by a search; leave allocation= out, or example_input= to "
        "prune every tensor by itself"
    )


def _rehearsed(one: Attempt) -> Rehearsal | str:
    """What compaction makes of the widths; or why that was not tried, empty where nothing is to go."""
    model, coupled = one.asked.model, one.coupled
    if coupled.keep == coupled.sizes:
        return ""
    weights = {name: p.detach() for name, p in model.named_parameters()}
    if any(p.is_meta for p in weights.values()):
        return "the model has no values, so its compaction was not rehearsed"
    stays = coupled.occupied(coupled.support(weights)).tolist()
    gone = [c for c, kept in zip(one.coupling.classes, stays, strict=True) if not kept]
    try:
        return rehearse(one.graph, model, np.unique(np.array(gone)), one.asked.example)
    except (RequestError, RunError) as error:
        return f"compaction could not be rehearsed, so it may leave more: {error}"


def _frozen(
    graph: ChannelGraph, kept_back: Mapping[int, str], held: dict[str, int]
) -> ChannelGraph:
    """The graph with every group frozen of which something was kept back, for the same reason.

    Which units of a group go is the weights' choice, so what holds for some holds for all of it.
    """
    for group in graph.groups:
        ids = [unit.id for unit in group.units]
        reason = next((kept_back[one] for one in ids if one in kept_back), None)
        if reason is not None:
            graph = graph.freeze(ids, reason)
            held[reason] = held.get(reason, 0) + len(ids)
    return graph


def _notes(held: Mapping[str, int]) -> list[str]:
    return [f"{count:,} channels stay: {reason}" for reason, count in held.items()]
