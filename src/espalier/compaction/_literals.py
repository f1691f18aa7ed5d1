"""Sizes a module's forward holds by itself: found by running, edited where known, else left alone.

A forward that says ``view(b, n, 3, self.num_heads, -1)`` works on the smaller tensor once
``num_heads`` is changed; one that says ``view(-1, 512)`` does not. The export shows where channels
pass through sizes, not whether those were literals; running the smaller model shows it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from espalier._ground.example import Example, arguments
from espalier._ground.modes import undisturbed
from espalier.compaction._code import literals
from espalier.compaction._edits import FORWARD, AttributeEdit, Number
from espalier.compaction._trials import brief
from espalier.graph._groups import ChannelGraph, Place
from espalier.graph._labels import Ids

# A number is edited only if its name says that it is a width: a kernel of 8 beside 8 heads is not.
_SIZE = re.compile(
    r"head|dim|chan|width|size|feat|embed|hidden|inner|group|plane|filter|split|chunk|section|shape"
    r"|^n[fx]$|^[cd](_|$)"
)
_PADDED = re.compile(r"pad|before|after|front|back|left|right|lead|trail")
_OTHER = re.compile(r"kernel|stride|pad|dilat|window|shift|patch|drop|max|min|batch|input_res|grid")
# Their numbers follow their weights (:func:`~espalier.compaction._remove.apply_edits`).
_FOLLOWING = (
    nn.modules.conv._ConvNd,
    nn.Linear,
    nn.Embedding,
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RNNBase,
    nn.MultiheadAttention,
)

Held = tuple[str, int]
"""Path of a module, and a size it holds."""
Choice = Mapping[str, int]
"""Attributes, and what each becomes."""


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

    def kind(self, place: Place) -> type:
        """The type of the module that is to be edited for a place."""
        return type(self.model.get_submodule(self.owners[place.node]))

    def tries(self, kind: type) -> int:
        """How many tries :func:`attribute_edits` has for modules of a type."""
        of_kind = (
            len(choices)
            for (path, _), choices in self.choices.items()
            if type(self.model.get_submodule(path)) is kind
        )
        return max(of_kind, default=0)


def changed_places(graph: ChannelGraph, gone: Ids) -> list[Place]:
    """The places where a labelled axis changes its size when classes go."""
    return [place for place in graph.sites if place.sizes(gone)]


def attribute_edits(
    model: nn.Module, held: Candidates, tries: Mapping[type, int]
) -> tuple[AttributeEdit, ...]:
    """The attributes to change, and to what.

    Only attributes named like a width or a number of heads, integers or tuples and lists of them.
    Where several have a size (8 heads of width 8), all are changed at the first try, and each alone at the
    next ones. Where a size becomes several (as many inputs as outputs), and no more than hold it, all are
    changed to each in turn, then one to each. Where no attribute has it, a literal in the module's forward
    may. Numbers of channels padded before and after an axis are told apart by the order in which the module
    holds them. The proof decides whether they were the right ones.

    Args:
        model: The dense module.
        held: From :func:`candidates`.
        tries: For every type of module to be edited: how many tries it has had.
    """
    changes: dict[tuple[str, str], dict[int, int]] = {}
    for (path, before), choices in held.choices.items():
        count = tries.get(type(model.get_submodule(path)))
        if count is None:
            continue
        # Where there is one choice, it stands while others of the type are told apart.
        chosen = choices[0] if len(choices) == 1 else dict(*choices[count : count + 1])
        for name, after in chosen.items():
            changes.setdefault((path, name), {})[before] = after
    edits = []
    for (path, name), new in changes.items():
        value = vars(model.get_submodule(path)).get(name)
        old: Number
        then: Number
        if type(value) is int:
            old, then = value, new[value]
        else:  # the numbers of a tuple or list stay where they stand; literals have no order
            old = tuple(new) if name == FORWARD else tuple(value or ())
            then = tuple(new.get(number, number) for number in old)
        edits.append(AttributeEdit(module=path, name=name, before=old, after=then))
    return tuple(edits)


def candidates(model: nn.Module, places: Iterable[Place], gone: Ids) -> Candidates:
    """The attributes that may hold what changes at these places when classes go."""
    found: dict[Held, list[Choice]] = {}
    owners: dict[str, str] = {}
    # Of every module: what each size becomes, in the order of the places.
    becomes: dict[str, dict[int, dict[int, None]]] = {}
    for place in places:
        owners[place.node] = path = _owner(model, place, gone)
        if "pad" in place.op:
            for name, old, new in _amounts(model, path, place, gone):
                padded = found.setdefault((path, old), [{}])
                padded[0] = {**padded[0], name: new}
            continue
        for old, new in place.sizes(gone):
            becomes.setdefault(path, {}).setdefault(old, {})[new] = None
    for path, sizes in becomes.items():
        named, said = _widths(model, path), literals(model.get_submodule(path))
        for size, after in sizes.items():
            names = [name for name, values in named.items() if size in values]
            # Its code is asked only where no attribute answers; more sizes than names stay unknown.
            names = names or [FORWARD] * (size in said)
            if len(after) <= len(names) and (path, size) not in found:
                found[path, size] = _choices(names, list(after))
    return Candidates(model=model, choices=found, owners=owners)


def _choices(names: Sequence[str], sizes: Sequence[int]) -> list[Choice]:
    """What one size held by ``names`` may become.

    >>> _choices(["a", "b"], [3])
    [{'a': 3, 'b': 3}, {'a': 3}, {'b': 3}]
    >>> _choices(["a", "b"], [3, 4])
    [{'a': 3, 'b': 3}, {'a': 4, 'b': 4}, {'a': 3, 'b': 4}]
    """
    found: list[Choice] = [dict.fromkeys(names, size) for size in sizes]
    if len(sizes) == 1 < len(names):
        return [*found, *({name: sizes[0]} for name in names)]
    if len(sizes) == len(names) > 1:
        found.append(dict(zip(names, sizes, strict=True)))
    return found


def _owner(model: nn.Module, place: Place, gone: Ids) -> str:
    """The nearest module around a place that holds one of its sizes, else the place's own.

    The exporter notes some operations under a module that ran just before or after: a ``split`` under
    the convolution that reads its first part.
    """
    old = {size for size, _ in place.sizes(gone)}
    path = place.module
    around = [path]
    while path:
        path = path.rpartition(".")[0]
        around.append(path)
    for path in around:
        named = _integers(model, path) if "pad" in place.op else _widths(model, path)
        if any(old & set(values) for values in named.values()):
            return path
    return next((p for p in around if old & set(literals(model.get_submodule(p)))), place.module)


def _amounts(model: nn.Module, path: str, place: Place, gone: Ids) -> list[tuple[str, int, int]]:
    """The first attribute that equals the first amount padded, the next for the second."""
    held = {n: v for n, v in _integers(model, path).items() if _PADDED.search(n)}
    found = []
    for classes in place.classes:
        old, new = len(classes), int((~np.isin(classes, gone)).sum())
        name = next((n for n, value in held.items() if value == (old,)), None)
        if name is not None:
            del held[name]
            if new != old:
                found.append((name, old, new))
    return found


def _widths(model: nn.Module, path: str) -> dict[str, tuple[int, ...]]:
    """The integers whose names say that they are widths."""
    held = _integers(model, path)
    return {n: v for n, v in held.items() if _SIZE.search(n) and not _OTHER.search(n)}


def _integers(model: nn.Module, path: str) -> dict[str, tuple[int, ...]]:
    """Attribute -> the integer, or the integers of a tuple or list."""
    module = model.get_submodule(path)
    if isinstance(module, _FOLLOWING):
        return {}
    found: dict[str, tuple[int, ...]] = {}
    for name, value in vars(module).items():
        # Not isinstance: True and False are integers too, and no sizes.
        if type(value) is int:
            found[name] = (value,)
        elif type(value) in (tuple, list) and value and all(type(v) is int for v in value):
            found[name] = tuple(value)
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
