"""Sizes a module's forward holds by itself: found by running, edited where known, else left alone.

A forward that says ``view(b, n, 3, self.num_heads, -1)`` works on the smaller tensor once
``num_heads`` is changed; one that says ``view(-1, 512)`` does not. The export shows where channels
pass through sizes, not whether those were literals; running the smaller model shows it.
"""

import re
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import nn

from espalier._ground.example import Example, arguments
from espalier._ground.modes import evaluating
from espalier.compaction._edits import AttributeEdit
from espalier.graph._groups import ChannelGraph, Place
from espalier.graph._labels import Ids

# A number is edited only if its name says that it is a width: a kernel of 8 beside 8 heads is not.
_SIZE = re.compile(r"head|dim|chan|width|size|feat|embed|hidden|inner|group|plane|filter|^n[fx]$")
_PADDED = re.compile(r"pad|before|after|front|back|left|right|lead|trail")
_OTHER = re.compile(r"kernel|stride|pad|dilat|window|shift|patch|drop|max|min|batch|input_res|grid")


def changed_places(graph: ChannelGraph, gone: Ids) -> list[Place]:
    """The places where a labelled axis changes its size when classes go."""
    return [place for place in graph.sites if place.sizes(gone)]


def attribute_edits(
    model: nn.Module, places: Iterable[Place], gone: Ids, tries: Mapping[type, int]
) -> tuple[AttributeEdit, ...]:
    """Integer attributes of the modules at ``places`` that equal an axis's old size.

    Only attributes named like a width or a number of heads, and only where the old size has a
    single new one. Where several attributes have that size (8 heads of width 8), all are changed
    at the first try, and each alone at the next ones. Numbers of channels padded before and after
    an axis are told apart by the order in which the module holds them. The proof decides whether
    they were the right ones.

    Args:
        model: The dense module.
        places: Where sizes change.
        gone: Classes that go.
        tries: For every type of module to be edited: how many tries it has had.
    """
    edits: dict[tuple[str, str], AttributeEdit] = {}
    for (path, before, after), names in _candidates(model, places, gone).items():
        count = tries.get(type(model.get_submodule(path)))
        if count is None or not names:
            continue
        # Try 0 changes all of them, try i the i-th alone.
        alone = count > 0 and len(names) > 1
        for name in names[count - 1 : count] if alone else names:
            edit = AttributeEdit(module=path, name=name, before=before, after=after)
            edits[path, name] = edit
    return tuple(edits.values())


def choices(model: nn.Module, places: Iterable[Place], gone: Ids) -> int:
    """How many tries :func:`attribute_edits` has for these places."""
    most = max((len(names) for names in _candidates(model, places, gone).values()), default=0)
    return most + 1 if most > 1 else most


def _candidates(
    model: nn.Module, places: Iterable[Place], gone: Ids
) -> dict[tuple[str, int, int], list[str]]:
    """(module, old size, new size) -> the attributes that may hold it."""
    found: dict[tuple[str, int, int], list[str]] = {}
    new_sizes: dict[str, dict[int, set[int]]] = {}
    for place in places:
        if "pad" in place.op:
            for name, old, new in _amounts(model, place, gone):
                found[place.module, old, new] = [*found.get((place.module, old, new), ()), name]
            continue
        for old, new in place.sizes(gone):
            new_sizes.setdefault(place.module, {}).setdefault(old, set()).add(new)
    for path, sizes in new_sizes.items():
        for name, value in _integers(model, path).items():
            if len(sizes.get(value, ())) != 1 or not _SIZE.search(name) or _OTHER.search(name):
                continue
            found.setdefault((path, value, next(iter(sizes[value]))), []).append(name)
    return found


def _amounts(model: nn.Module, place: Place, gone: Ids) -> list[tuple[str, int, int]]:
    """The first attribute that equals the first amount padded, the next for the second."""
    held = {n: v for n, v in _integers(model, place.module).items() if _PADDED.search(n)}
    found = []
    for classes in place.classes:
        old, new = len(classes), int((~np.isin(classes, gone)).sum())
        name = next((n for n, value in held.items() if value == old), None)
        if name is not None:
            del held[name]
            if new != old:
                found.append((name, old, new))
    return found


def _integers(model: nn.Module, path: str) -> dict[str, int]:
    module = model.get_submodule(path)
    if isinstance(module, nn.modules.conv._ConvNd):
        return {}  # its numbers follow its weight
    # Not isinstance: True and False are integers too, and no sizes.
    return {n: v for n, v in vars(module).items() if type(v) is int}


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
        with evaluating(model), torch.no_grad():
            model(*positional, **named)
    except Exception as error:  # whatever the model's own code raises on other sizes
        # A module that raises is never left, so what is on top of the stack is the innermost.
        first = (str(error).strip().splitlines() or [""])[0]
        return (stack[-1] if stack else ""), f"{type(error).__name__}: {first}"
    finally:
        for handle in handles:
            handle.remove()
    return None


def guilty_places(places: list[Place], path: str) -> list[Place]:
    """The changed places nearest to the module that failed: its own, else its ancestors'."""
    while True:
        inside = [p for p in places if p.module == path]
        if inside:
            return inside
        if not path:
            return places
        path = path.rpartition(".")[0]
