"""Sizes a module's forward holds by itself: found by running, edited where known, else left alone.

A forward that says ``view(b, n, 3, self.num_heads, -1)`` works on the smaller tensor once
``num_heads`` is changed; one that says ``view(-1, 512)`` does not. The export shows where channels
pass through sizes, not whether those were literals; running the smaller model shows it.
"""

import re
from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from espalier.compaction.edits import AttributeEdit
from espalier.graph.groups import ChannelGraph, Place
from espalier.graph.labels import Ids
from espalier.graph.trace import Example, arguments, evaluating

_SIZE = re.compile(r"head|dim|chan|width|size|feat|embed|hidden|inner|group|plane|filter|^n[fx]$")
_PADDED = re.compile(r"pad|before|after|front|back|left|right|lead|trail")
_OTHER = re.compile(r"kernel|stride|pad|dilat|window|shift|patch|drop|max|min|batch|input_res|grid")


def changed_places(graph: ChannelGraph, gone: Ids) -> list[Place]:
    """The places where a labelled axis changes its size when classes go."""
    return [place for place in graph.sites if place.sizes(gone)]


def attribute_edits(
    model: nn.Module, places: Iterable[Place], gone: Ids
) -> tuple[AttributeEdit, ...]:
    """Integer attributes of the modules at ``places`` that equal an axis's old size.

    Only attributes named like a width or a number of heads, and only where the old size has a
    single new one. Numbers of channels padded before and after an axis are told apart by the order
    in which the module holds them. The proof decides whether they were the right ones.
    """
    edits: dict[tuple[str, str], AttributeEdit] = {}
    new_sizes: dict[str, dict[int, set[int]]] = {}
    for place in places:
        if "pad" in place.op:
            edits |= _amounts(model, place, gone)
            continue
        for old, new in place.sizes(gone):
            new_sizes.setdefault(place.module, {}).setdefault(old, set()).add(new)
    for path, sizes in new_sizes.items():
        for name, value in _integers(model, path).items():
            if len(sizes.get(value, ())) != 1 or not _SIZE.search(name) or _OTHER.search(name):
                continue
            after = next(iter(sizes[value]))
            edit = AttributeEdit(module=path, name=name, before=value, after=after)
            edits[path, name] = edit
    return tuple(edits.values())


def _amounts(model: nn.Module, place: Place, gone: Ids) -> dict[tuple[str, str], AttributeEdit]:
    """The first attribute that equals the first amount padded, the next for the second."""
    held = {n: v for n, v in _integers(model, place.module).items() if _PADDED.search(n)}
    edits = {}
    for classes in place.classes:
        name = next((n for n, value in held.items() if value == len(classes)), None)
        if name is not None:
            before, after = held.pop(name), int((~np.isin(classes, gone)).sum())
            edit = AttributeEdit(module=place.module, name=name, before=before, after=after)
            edits[place.module, name] = edit
    return {key: edit for key, edit in edits.items() if edit.after != edit.before}


def _integers(model: nn.Module, path: str) -> dict[str, int]:
    return {n: v for n, v in vars(model.get_submodule(path)).items() if type(v) is int}


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
