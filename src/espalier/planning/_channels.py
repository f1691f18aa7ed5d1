"""Plans that take whole channels out of a model: chosen, rehearsed, and chosen anew."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from espalier import budgets
from espalier._ground.example import Example
from espalier.compaction import Rehearsal, rehearse
from espalier.errors import BudgetError, RequestError, RunError
from espalier.graph import ChannelGraph, channel_graph
from espalier.measure import LayerCosts
from espalier.planning._allotment import Allotter
from espalier.planning._attempt import Asked, Attempt, attempt, coupled_in
from espalier.planning._couple import is_structured
from espalier.planning._plan import Plan
from espalier.planning._ranking import Ranking
from espalier.planning._request import Request
from espalier.planning._select import Selection

_CORRECTIONS = 8
"""How often a limit is moved by what a rehearsal measured."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Met:
    """A plan that meets a request.

    Attributes:
        plan: It.
        compact: The compact model that was measured, its values without meaning; ``None`` where nothing goes, or
            where compaction could not be rehearsed.
    """

    plan: Plan
    compact: nn.Module | None


class ChannelPlans:
    """Plans of one model by the widths of coupled channels; other sets are pruned alone.

    For one request or for many: the model is traced once, and what compaction keeps back is found once.

    A tensor that is pruned alone may lose slices besides, with the channels it reads: what is counted of it
    is what its keep leaves of the weights that are then alive.

    Args:
        model: Not modified.
        chosen: The sets asked for.
        layers: The selected tensors.
        costs: Of the dense model.
        example: One batch.

    Raises:
        BudgetError: Nothing can go.
        RequestError: The model cannot be exported.
    """

    def __init__(
        self,
        model: nn.Module,
        chosen: Selection,
        layers: Mapping[str, budgets.Layer],
        costs: LayerCosts,
        example: Example,
    ) -> None:
        others = {name: layer for name, layer in layers.items() if not is_structured(layer.set)}
        self._asked = Asked(model=model, chosen=chosen, others=others, costs=costs, example=example)
        self._held: dict[str, int] = {}
        self._see(channel_graph(model, example))

    def _see(self, graph: ChannelGraph) -> None:
        self._graph = graph
        self._coupling = coupled_in(self._asked, graph, "; ".join(_notes(self._held)))

    def met(self, request: Request) -> Met:
        """The plan that meets a request.

        Compaction is rehearsed at the widths chosen. What it keeps back is frozen and the widths are chosen
        anew, until it keeps nothing back; where the compact model costs other than estimated, the limit is
        moved by the difference. So what the plan promises was measured of a compact model.

        Raises:
            BudgetError: What cannot be met.
        """
        request = _allotted(request, bool(self._asked.others))
        shift: dict[str, int] = {}
        best: Met | None = None
        corrections = 0
        while True:
            unmet: BudgetError | None = None
            notes = _notes(self._held)
            given = self._asked, request, self._graph, self._coupling
            try:
                one = attempt(*given, shift, "; ".join(notes))
            except BudgetError as error:
                # The least that can be reached is known once the smallest widths have been rehearsed.
                one, unmet = attempt(*given, shift, "", least=True), error
            seen = _rehearsed(one)
            if unmet is not None and not (isinstance(seen, Rehearsal) and seen.kept_back):
                raise unmet
            if not isinstance(seen, Rehearsal):
                return Met(plan=one.plan((*notes, *([seen] if seen else []))), compact=None)
            if seen.kept_back:
                self._see(_frozen(self._graph, seen.kept_back, self._held))
                best, shift = None, {}
                continue
            made = one.plan(notes, seen.model)
            over = one.overdrawn(made)
            if one.within(over):
                if best is None or (made.macs_left or 0) > (best.plan.macs_left or 0):
                    best = Met(plan=made, compact=seen.model)
                # Where the estimate, as corrected, is what was measured, no wider widths would fit.
                if all(by == shift.get(what, 0) for what, by in over.items()):
                    return Met(plan=made, compact=seen.model)
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
