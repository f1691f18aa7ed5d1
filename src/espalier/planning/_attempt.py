"""One choice of widths: how it is made, and the plan that says it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from espalier import budgets
from espalier._ground.example import Example
from espalier._ground.types import Keep
from espalier.budgets._patterns import matching
from espalier.errors import BudgetError
from espalier.graph import ChannelGraph
from espalier.measure import LayerCosts, layer_costs, model_bytes
from espalier.planning._allotment import Allotter, allot_coupled
from espalier.planning._beside import at_hand, beside
from espalier.planning._cost import Limit
from espalier.planning._couple import Coupling, couple
from espalier.planning._ledger import Delivered
from espalier.planning._limits import Costing
from espalier.planning._plan import Plan
from espalier.planning._ranking import Ranking
from espalier.planning._request import Request
from espalier.planning._rows import left_dense, of_alone, of_coupled
from espalier.planning._select import Selection
from espalier.planning._widths import by_rank, evenly, explicit, ladders
from espalier.sets import Alone, Coupled, Shared


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """What does not change from one attempt to the next.

    Attributes:
        model: The dense one.
        chosen: The sets asked for.
        others: The tensors that are pruned by themselves.
        costs: Of the dense model.
        example: One batch.
    """

    model: nn.Module
    chosen: Selection
    others: Mapping[str, budgets.Layer]
    costs: LayerCosts
    example: Example

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every parameter, in the model's order."""
        return {name: tuple(p.shape) for name, p in self.model.named_parameters()}


@dataclass(frozen=True, kw_only=True, eq=False)
class Attempt:
    """Widths.

    Attributes:
        asked: What they are for.
        graph: With what compaction keeps back frozen.
        coupling: The units that may go.
        coupled: How many of each group stay.
        limits: What was asked of them, as estimated; none where widths were given.
        alone: The tensors that are pruned by themselves besides.
        shared: The budget those share, if the rule makes one.
        columns: The fraction of columns that the estimate was made with.
    """

    asked: Asked
    graph: ChannelGraph
    coupling: Coupling
    coupled: Coupled
    limits: Sequence[Limit]
    alone: Mapping[str, Alone]
    shared: Shared | None
    columns: float

    def plan(self, notes: Sequence[str], compact: nn.Module | None = None) -> Plan:
        """The plan of these widths, with what a compact model of them was found to have."""
        asked, coupled, alone = self.asked, self.coupled, self.alone
        shapes, costs = asked.shapes, asked.costs
        if self.shared is not None:
            alone = at_hand(alone, self.shared, coupled, asked.model)
        entries = {
            n: of_coupled(n, coupled, shapes[n], asked.chosen, costs) for n in coupled.members
        }
        entries |= {name: of_alone(one, asked.chosen, costs) for name, one in alone.items()}
        unknown = [
            f"{op} in {at or 'the model itself'} is not understood: what it touches stays"
            for op, at in self.graph.unknown.items()
        ]
        return Plan(
            entries={name: entries[name] for name in shapes if name in entries},
            parts=(coupled,) if self.shared is None else (coupled, self.shared),
            skipped=left_dense(
                entries, coupled, self.coupling.reasons, asked.chosen, costs, shapes
            ),
            between_activations=costs.between_activations,
            notes=(*costs.warnings, *unknown, *notes),
            delivered=None if compact is None else self._delivered(compact),
        )

    def overdrawn(self, made: Plan) -> dict[str, int]:
        """By how much what was measured is more than what the widths were estimated to cost."""
        measured = {"macs": made.macs_left}
        if made.delivered is not None:
            measured["bytes"] = made.delivered.bytes[1]
        keep = self.coupled.keep
        return {
            limit.what: found - round(float(limit.cost(keep, self.columns)))
            for limit in self.limits
            if (found := measured.get(limit.what)) is not None
        }

    def within(self, over: Mapping[str, int]) -> bool:
        """Whether the limits are kept when widths cost so much more than estimated."""
        return all(
            float(x.cost(self.coupled.keep, self.columns)) + over.get(x.what, 0) <= x.most + 0.5
            for x in self.limits
        )

    def _delivered(self, compact: nn.Module) -> Delivered:
        asked = self.asked
        after = layer_costs(compact, asked.example)
        # The zeros of what is pruned by itself, or loses columns, are in the compact model still.
        sparse = {*self.alone, *self.coupled.columns}
        rows = {name: after[name].macs for name in asked.costs if name in after}
        bytes_of = model_bytes(asked.model).dense, model_bytes(compact).dense
        return Delivered(
            macs={name: macs for name, macs in rows.items() if name not in sparse},
            # What compaction brought in of its own counts with the products of activations.
            between_activations=after.total - sum(rows.values()),
            bytes=bytes_of,
        )


def attempt(
    asked: Asked,
    request: Request,
    graph: ChannelGraph,
    coupling: Coupling,
    shift: Mapping[str, int],
    held: str,
    *,
    least: bool = False,
) -> Attempt:
    """Choose widths.

    Args:
        asked: What for.
        request: The figures.
        graph: With what compaction keeps back frozen.
        coupling: The units of that graph.
        shift: By what limit: how much more was measured of widths than they were estimated to cost.
        held: What compaction keeps back, and why, for messages.
        least: Take the smallest widths there may be, whatever is asked.

    Raises:
        BudgetError: What cannot be met.
    """
    keep = _of_known(request.keep or {}, coupling, asked.chosen)
    alone, shared = beside(asked.others, request, keep, asked.costs, asked.model)
    coupled, limits, columns = coupling.units, [], 1.0
    if request.keep is not None:
        # A pattern may be for tensors that are pruned alone, and for them only.
        mine = {
            p: k for p, k in keep.items() if matching(p, coupling.widths) or not matching(p, alone)
        }
        coupled = explicit(coupling, mine, asked.shapes)
    else:
        of = Costing(
            model=asked.model, graph=graph, coupling=coupling, dense=asked.costs,
            chosen=asked.chosen, alone=alone,
        )  # fmt: skip
        limits = of.limits(request)
        moved = [replace(x, most=x.most - shift.get(x.what, 0)) for x in limits]
        allowed = ladders(coupling, request.multiple, request.minimum)
        if least:
            widths, columns = [one.least for one in allowed], 0.0
        elif isinstance(request.allocation, Ranking):
            if of.columns:
                raise BudgetError(
                    f"{of.columns[0]}: filters are ranked without columns; give Filters() or Channels()"
                )
            price = request.allocation.price(of, asked.example)
            widths = by_rank(moved, allowed, request.allocation.scores(of), price, held)
        elif isinstance(request.allocation, Allotter):
            widths = list(request.allocation.allot(allot_coupled(of, moved, allowed)))
        else:
            widths, columns = evenly(moved, allowed, held)
        coupled = replace(coupled, keep=tuple(widths), columns=of.columns_left(widths, columns))
    return Attempt(
        asked=asked, graph=graph, coupling=coupling, coupled=coupled, limits=limits, alone=alone,
        shared=shared, columns=columns,
    )  # fmt: skip


def coupled_in(asked: Asked, graph: ChannelGraph, held: str) -> Coupling:
    """The units that may go.

    Raises:
        BudgetError: None may.
    """
    coupling = couple(asked.model, graph, asked.chosen)
    if coupling.coupled is None:
        reasons = [f"{name}: {reason}" for name, reason in coupling.reasons.items()]
        why = "; ".join(reasons[:3]) or held or "no weight creates one"
        raise BudgetError(f"no channel can go: {why}")
    for name in asked.others:
        if name in coupling.coupled.members:
            raise BudgetError(
                f"{name} goes with the channels of its layer, so it has no set of its own; leave it out"
            )
    return coupling


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
