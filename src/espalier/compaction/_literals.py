"""Sizes a module's forward holds by itself: found by running, edited where known, else left alone.

A forward that says ``view(b, n, 3, self.num_heads, -1)`` works on the smaller tensor once
``num_heads`` is changed; one that says ``view(-1, 512)`` does not. The export shows where channels
pass through sizes, not whether those were literals; running the smaller model shows it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import prod

import numpy as np
from torch import nn

from espalier._ground.example import Example, arguments
from espalier._ground.modes import undisturbed
from espalier.compaction._choices import Choice, choices_of, ways
from espalier.compaction._edits import FORWARD, AttributeEdit, Number
from espalier.compaction._locals import CALL
from espalier.compaction._numbers import PADDED, held_number, integers, ranked
from espalier.compaction._trials import brief
from espalier.graph._groups import ChannelGraph, Place
from espalier.graph._labels import Ids

COMBINATIONS = 16
"""Tries for the modules of one type."""
DIFFERENT = 3
"""What one size becomes in so many ways at most is told apart."""

Held = tuple[str, int]
"""Path of a module, and a size it holds."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """The attributes that may hold sizes which change.

    Attributes:
        model: The dense module.
        choices: Where, and from what -> what may be tried, the likeliest first.
        owners: Node of a place -> the module whose attributes may hold its sizes.
    """

    model: nn.Module
    choices: Mapping[Held, Sequence[Choice]]
    owners: Mapping[str, str]

    def type_of(self, path: str) -> type:
        """Of a module; blocks of one type share what their attributes teach."""
        return type(self.model.get_submodule(path))

    def kind(self, place: Place) -> type:
        """The type of the module that is to be edited for a place."""
        return self.type_of(self.owners[place.node])

    def paths(self) -> list[str]:
        """The modules that hold sizes."""
        return list(dict.fromkeys(path for path, _ in self.choices))

    def tries(self, kind: type) -> int:
        """How many tries :func:`attribute_edits` has for modules of a type."""
        counts = (
            prod(len(choices) for (one, _), choices in self.choices.items() if one == path)
            for path in self.paths()
            if self.type_of(path) is kind
        )
        return min(COMBINATIONS, max(counts, default=0))


def changed_places(
    graph: ChannelGraph, gone: Ids, seen: Mapping[str, Mapping[str, int]]
) -> list[Place]:
    """The places where a labelled axis changes its size, or has one that is taken from a shape that may change."""
    found = []
    for place in graph.sites:
        taken = set(seen.get(place.module, {}).values())
        if any(old != new or old in taken for old, new in place.sizes(gone)):
            found.append(place)
    return found


def attribute_edits(
    model: nn.Module, held: Candidates, tries: Mapping[type, int]
) -> tuple[AttributeEdit, ...]:
    """The attributes to change, and to what.

    What is tried for one size is in :func:`~espalier.compaction._choices.choices_of`; several sizes of a module
    that leave a choice are tried in combinations, up to ``COMBINATIONS``. Numbers of channels padded before and
    after an axis are told apart by the order in which the module holds them. The proof decides whether they
    were the right ones.

    Args:
        model: The dense module.
        held: From :func:`candidates`.
        tries: For every type of module to be edited: how many tries it has had.
    """
    changes: dict[tuple[str, str], dict[int, int]] = {}
    for path in held.paths():
        count = tries.get(held.type_of(path))
        if count is None:
            continue
        mine = [(before, choices) for (one, before), choices in held.choices.items() if one == path]
        each = ways([len(choices) for _, choices in mine])
        for (before, choices), at in zip(mine, next(islice(each, count, None), ()), strict=False):
            for name, after in choices[at].items():
                changes.setdefault((path, name), {})[before] = after
    edits = []
    for (path, name), new in changes.items():
        value = held_number(model.get_submodule(path), name)
        old: Number
        then: Number
        if type(value) is int or CALL in name:
            ((old, then),) = new.items()
        else:  # the numbers of a tuple or list stay where they stand; literals have no order
            old = tuple(new) if name == FORWARD else tuple(value or ())
            then = tuple(new.get(number, number) for number in old)
        edits.append(AttributeEdit(module=path, name=name, before=old, after=then))
    return tuple(edits)


def candidates(
    model: nn.Module, places: Iterable[Place], gone: Ids, seen: Mapping[str, Mapping[str, int]]
) -> Candidates:
    """The attributes that may hold what changes at these places when classes go.

    Args:
        model: The dense module.
        places: From :func:`changed_places`.
        gone: Classes that go.
        seen: Of :func:`~espalier.compaction._locals.sizes_seen`.
    """
    found: dict[Held, list[Choice]] = {}
    owners: dict[str, str] = {}
    # Of every module: what each size becomes, in the order of the places.
    becomes: dict[str, dict[int, dict[int, None]]] = {}
    for place in places:
        owners[place.node] = path = _owner(model, place, gone, seen)
        if "pad" in place.op:
            for name, old, new in _amounts(model, path, place, gone):
                padded = found.setdefault((path, old), [{}])
                padded[0] = {**padded[0], name: new}
            continue
        taken = set(seen.get(path, {}).values())
        for old, new in place.sizes(gone):
            if old != new or old in taken:
                becomes.setdefault(path, {}).setdefault(old, {})[new] = None
    for path, sizes in becomes.items():
        ranks = ranked(model, path, seen)
        for size, after in sizes.items():
            if (path, size) not in found and len(after) <= DIFFERENT:
                named = [[n for n, values in rank.items() if size in values] for rank in ranks]
                choices = [c for names in named if names for c in choices_of(names, list(after))]
                if choices and any(CALL in name for name in choices[-1]):
                    choices.append({})
                if choices:
                    found[path, size] = choices
    return Candidates(model=model, choices=found, owners=owners)


def _owner(model: nn.Module, place: Place, gone: Ids, seen: Mapping[str, Mapping[str, int]]) -> str:
    """The nearest module around a place that holds one of its sizes, else the place's own.

    The exporter notes some operations under a module that ran just before or after: a ``split`` under
    the convolution that reads its first part.
    """
    old = {size for size, new in place.sizes(gone) if new != size}
    if not old:  # it is here for what its own module takes from a shape
        return place.module
    path = place.module
    around = [path]
    while path:
        path = path.rpartition(".")[0]
        around.append(path)
    if "pad" in place.op:
        held = {p: [integers(model, p)] for p in around}
    else:
        held = {p: ranked(model, p, seen) for p in around}
    # What its own code says or names comes first; then what it may have been given from elsewhere.
    for ranks in (slice(3), slice(3, None)):
        for path in around:
            numbers = (set(values) for rank in held[path][ranks] for values in rank.values())
            if any(old & one for one in numbers):
                return path
    return place.module


def _amounts(model: nn.Module, path: str, place: Place, gone: Ids) -> list[tuple[str, int, int]]:
    """The first attribute that equals the first amount padded, the next for the second."""
    held = {n: v for n, v in integers(model, path).items() if PADDED.search(n)}
    found = []
    for classes in place.classes:
        old, new = len(classes), int((~np.isin(classes, gone)).sum())
        name = next((n for n, value in held.items() if value == (old,)), None)
        if name is not None:
            del held[name]
            if new != old:
                found.append((name, old, new))
    return found


def failing_module(model: nn.Module, example: Example) -> tuple[str, str] | None:
    """Run a model; None if it runs, else the innermost module that failed and the message."""
    stack: list[str] = []
    handles = []
    for path, module in model.named_modules():

        def enter(_: nn.Module, __: object, path: str = path) -> None:
            stack.append(path)

        def leave(_: nn.Module, __: object, ___: object) -> None:
            stack.pop()

        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave))
    positional, named = arguments(example)
    try:
        with undisturbed(model):
            model(*positional, **named)
    except Exception as error:  # whatever the model's own code raises on other sizes
        # A module that raises is never left, so what is on top of the stack is the innermost.
        return (stack[-1] if stack else ""), brief(error)
    finally:
        for handle in handles:
            handle.remove()
    return None


def guilty_places(places: list[Place], path: str) -> list[Place]:
    """The changed places in the module that failed; where there are none, nearest around it."""
    while True:
        inside = [p for p in places if f"{p.module}.".startswith(f"{path}.") or not path]
        if inside or not path:
            return inside
        path = path.rpartition(".")[0]
