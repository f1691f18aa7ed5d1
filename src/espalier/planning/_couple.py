"""From a channel graph to units that live or go as one: what a structured plan may choose among."""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TypeGuard

from torch import nn

from espalier.graph import ChannelGraph, Group, Slice, Unit
from espalier.graph._labels import Ids
from espalier.measure import Owner
from espalier.planning._cost import Axis
from espalier.planning._select import Selection, check_alone
from espalier.sets import Along, Channels, Coupled, Filters, FiltersAndColumns, Set
from espalier.sets._along import STAYS

Structured = Filters | Channels | FiltersAndColumns


@dataclass(frozen=True, kw_only=True)
class Coupling:
    """The units of a model.

    Attributes:
        coupled: Them, all kept; ``None`` when nothing can go.
        widths: By weight: the groups that its filters (or channels) are of, and how many of its
            indices one unit of each takes.
        reasons: By weight that was selected and is left dense: why.
        classes: By unit: its class in the channel graph.
    """

    coupled: Coupled | None
    widths: Mapping[str, Mapping[int, int]]
    reasons: Mapping[str, str]
    classes: tuple[int, ...]

    @property
    def units(self) -> Coupled:
        """The units, where there are some."""
        assert self.coupled is not None
        return self.coupled

    def axis(self, classes: Ids) -> Axis:
        """An axis, given by the class of each of its indices, as a cost sees it."""
        number = {one: unit for unit, one in enumerate(self.classes)}
        units = tuple(number.get(one, STAYS) for one in classes.tolist())
        return len(units), self.units.taken(Along(0, units))[1]


def is_structured(which: Set) -> TypeGuard[Structured]:
    """Whether it takes out channels, which other tensors may be tied to."""
    return isinstance(which, Structured)


def check_coupled(which: Set, shape: tuple[int, ...], owner: Owner) -> None:
    """As ``check_alone``; but the graph knows which axis of a transposed layer counts its outputs."""
    if owner.kind.outputs_first or not isinstance(which, Filters | Channels):
        check_alone(which, shape, owner)


def couple(model: nn.Module, graph: ChannelGraph, chosen: Selection) -> Coupling:
    """Number the units that may go, and say along which axis of which tensor each runs.

    ``Filters`` constrains what creates a channel (filters, biases, γ, β) and takes along what reads
    it; ``Channels`` the other way round. A unit is free only if all the weights it is constrained
    in were selected with such a set.
    """
    parameters = dict(model.named_parameters())
    along: dict[tuple[str, int], list[int]] = {}
    constrained: dict[tuple[str, int], bool] = {}
    widths: dict[str, dict[int, int]] = {}
    reasons: dict[str, str] = {}
    sizes: list[int] = []
    classes: list[int] = []
    for group in graph.groups:
        own = _constrained_side(group, chosen)
        taken = {axis for axis, mine in constrained.items() if mine}
        reason = _refusal(group, own, chosen, parameters, taken)
        if reason is not None:
            reasons |= {name: reason for name, axis in own if axis == _axis_of(chosen, name)}
            continue
        for alike in _alike(group):
            first = sum(sizes)
            sizes.append(len(alike))
            classes += [unit.id for unit in alike]
            for number, unit in enumerate(alike, first):
                for piece in _pieces(unit, parameters):
                    axis = piece.name, piece.axis
                    units = along.setdefault(axis, [STAYS] * parameters[axis[0]].shape[axis[1]])
                    for index in piece.indices:
                        units[index] = number
                    constrained[axis] = axis in own
                    if axis in own and axis[0] in chosen.sets:
                        mine = widths.setdefault(axis[0], {})
                        mine[len(sizes) - 1] = len(piece.indices)
    lines = {axis: Along(axis[1], tuple(units)) for axis, units in along.items()}
    members = {axis[0]: line for axis, line in lines.items() if constrained[axis]}
    implied: dict[str, list[Along]] = {}
    for axis, line in lines.items():
        if not constrained[axis]:
            implied.setdefault(axis[0], []).append(line)
    coupled = Coupled(
        sizes=tuple(sizes),
        keep=tuple(sizes),
        members={name: members[name] for name in parameters if name in members},
        implied={name: tuple(lines) for name, lines in implied.items()},
    )
    reasons = {name: reason for name, reason in reasons.items() if name not in widths}
    return Coupling(
        coupled=coupled if sizes else None, widths=widths, reasons=reasons, classes=tuple(classes)
    )


def _axis_of(chosen: Selection, name: str) -> int | None:
    """The axis along which a selected weight loses channels."""
    which = chosen.sets.get(name)
    if which is None or not is_structured(which):
        return None
    return int(isinstance(which, Channels) == chosen.owners[name].kind.outputs_first)


Axes = Sequence[tuple[str, int]]


def _constrained_side(group: Group, chosen: Selection) -> Axes:
    """The axes that are constrained, by the set of the group's weights; the others follow."""
    reads = [chosen.sets.get(name) for name, _ in group.consumers]
    if reads and all(isinstance(which, Channels) for which in reads):
        return group.consumers
    return group.producers


def _refusal(
    group: Group,
    own: Axes,
    chosen: Selection,
    parameters: Mapping[str, nn.Parameter],
    taken: AbstractSet[tuple[str, int]],
) -> str | None:
    """Why no unit of a group may go; ``None`` when they may."""
    if group.frozen:
        return f"its channels stay: {'; '.join(group.frozen)}"
    weights = [name for name, _ in own if name in chosen.owners and _is_weight(chosen, name)]
    if not weights:
        return "no weight creates its channels"
    for name in weights:
        which = chosen.sets.get(name)
        if which is None or not is_structured(which):
            return f"its channels are tied to {name}, which is not pruned by filters or channels"
    axes = {(name, axis) for name, axis in own if name in parameters} | taken
    if len({name for name, _ in axes}) < len(axes):
        return "its channels are tied to each other along two axes"
    # A class token or a table of positions, (1, n, C), may.
    if any(axis > 1 for name, axis in axes if name in weights):
        return "its channels are created along an axis that is neither filters nor channels"
    return None


def _is_weight(chosen: Selection, name: str) -> bool:
    kind = chosen.owners[name].kind
    return kind.is_conv or kind.is_linear


def _alike(group: Group) -> Iterator[list[Unit]]:
    """The units of a group, those that take equally many indices of every axis together."""
    kinds: dict[tuple[int, ...], list[Unit]] = {}
    for unit in group.units:
        taken = tuple(len(piece.indices) for piece in (*unit.producers, *unit.consumers))
        kinds.setdefault(taken, []).append(unit)
    yield from kinds.values()


def _pieces(unit: Unit, parameters: Mapping[str, nn.Parameter]) -> list[Slice]:
    """The slices of a unit in parameters, each once; buffers follow their layer."""
    seen = {(piece.name, piece.axis): piece for piece in (*unit.producers, *unit.consumers)}
    return [piece for (name, _), piece in seen.items() if name in parameters]
