"""From a module to its channel graph."""

import io
import warnings
from collections.abc import Mapping
from contextlib import redirect_stderr

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram

from espalier._ground.example import Example, arguments
from espalier._ground.modes import evaluating
from espalier.errors import RequestError
from espalier.graph._context import Site
from espalier.graph._groups import Axis, ChannelGraph, Place
from espalier.graph._interpreter import Walk, walk
from espalier.graph._labels import SILENT, Ids
from espalier.graph._products import resolved

UNUSED = "not used in the forward that was exported"
PARTS = ("backbone", "body", "encoder", "features")
HEADS = "nn.MultiheadAttention is as wide inside as outside, so its heads cannot go alone"


def channel_graph(model: nn.Module, example_inputs: Example) -> ChannelGraph:
    """Find which channels of which parameters live and die together.

    The model is exported in evaluation mode and its graph of ATen operations interpreted: every
    index of every axis of every parameter carries a label, and operations unify labels. An
    operation that is not understood freezes the labels it touches, and is named: a class is at
    worst not removable, never wrongly so.

    Args:
        model: Any module that ``torch.export`` can export. Not modified.
        example_inputs: A tensor, a tuple of positional arguments, or a mapping of named ones.

    Returns:
        The graph: ``groups``, ``couplings(parameter, axis)``, ``table()``.

    Raises:
        RequestError: The model cannot be exported.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> group, = channel_graph(net, torch.zeros(2, 3)).removable
        >>> group.producers, group.consumers, len(group.units)
        ((('0.weight', 0), ('0.bias', 0)), (('2.weight', 1),), 4)
    """
    positional, named = arguments(example_inputs)
    program = exported(model, positional, named)
    found = walk(program)
    _tie(found, model)
    _fuse(found, model)
    return _graph(found, program, positional, named)


def exported(
    model: nn.Module, positional: tuple[object, ...], named: Mapping[str, object]
) -> ExportedProgram:
    """The model's ATen graph in evaluation mode."""
    # What the exporter prints of a failure, the whole graph so far, is in no proportion to its use.
    quiet = redirect_stderr(io.StringIO())
    with evaluating(model), torch.no_grad(), warnings.catch_warnings(), quiet:
        warnings.simplefilter("ignore")
        try:
            program = torch.export.export(model, positional, dict(named))
            decomposed: ExportedProgram = program.run_decompositions({})
            return decomposed
        except Exception as error:  # the exporter raises whatever the model's code does
            first = str(error).strip().splitlines()[:1]
            parts = (n for n, m in model.named_children() if n in PARTS)
            part = next(parts, None)
            advice = f", or its part without that (model.{part})" if part else ""
            raise RequestError(
                f"{type(model).__name__} cannot be exported by torch.export with these inputs "
                f"({type(error).__name__}: {first[0] if first else ''}); "
                "give inputs on which the model runs, and a forward without data-dependent control "
                f"flow{advice}"
            ) from error


def _tie(found: Walk, model: nn.Module) -> None:
    """The names of one tensor share their labels; a tensor that nothing reads is frozen."""
    labels = found.context.labels
    names: dict[int, list[str]] = {}
    for held in (model.named_parameters, model.named_buffers):
        for name, tensor in held(remove_duplicate=False):
            names.setdefault(id(tensor), []).append(name)
    first = {name: alike[0] for alike in names.values() for name in alike}
    # A shared tensor is read under one of its names, so whether it is read is asked of the tensor.
    used = {first.get(name, name) for name, _ in found.axes if name not in found.unused}
    for (name, axis), ids in found.axes.items():
        one = first.get(name, name)
        if one not in used:
            labels.freeze(ids, UNUSED)
        elif name != one and (one, axis) in found.axes:
            labels.unify(found.axes[one, axis], ids)


def _fuse(found: Walk, model: nn.Module) -> None:
    """Freeze the heads of PyTorch's attention, which has no number for their width."""
    read = {"in_proj_weight": 0, "q_proj_weight": 0, "k_proj_weight": 0, "v_proj_weight": 0}
    for path, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            for name, axis in read.items():
                ids = found.axes.get((f"{path}.{name}".removeprefix("."), axis))
                if ids is not None:
                    found.context.labels.freeze(ids, HEADS)


def _graph(
    found: Walk,
    program: ExportedProgram,
    positional: tuple[object, ...],
    named: Mapping[str, object],
) -> ChannelGraph:
    labels = found.context.labels
    roots = labels.roots()
    reasons = labels.reasons()
    produced, consumed = labels.roles()
    # SILENT alone means no channel at all; with any other reason beside it, a channel that stays.
    no_channel = {root for root, why in reasons.items() if why == (SILENT,)}
    used = np.unique(np.concatenate([roots[ids] for ids in found.axes.values()] or [roots[:0]]))
    kept = [root for root in used.tolist() if root not in no_channel]
    number = np.full(len(roots) + 1, -1, dtype=np.int64)
    number[kept] = np.arange(len(kept))
    classes: dict[Axis, Ids] = {}
    producing, consuming = set(), set()
    for axis, ids in found.axes.items():
        classes[axis] = number[roots[ids]]
        if consumed[ids].any():
            consuming.add(axis)
        # What was noted as neither (γ, β, running statistics) goes with what creates the channel.
        if produced[ids].any() or not consumed[ids].any():
            producing.add(axis)
    frozen = {
        int(number[root]): tuple(w for w in why if w != SILENT)
        for root, why in reasons.items()
        if number[root] >= 0
    }
    return ChannelGraph(
        classes=classes,
        frozen=frozen,
        producing=frozenset(producing),
        consuming=frozenset(consuming),
        unknown=dict(found.context.unknown),
        program=program,
        inputs=(positional, dict(named)),
        sites=tuple(_resolved(site, number[roots]) for site in found.context.sites),
        products=tuple(resolved(one, number[roots]) for one in found.products),
    )


def _resolved(site: Site, class_of: Ids) -> Place:
    arrays = tuple(class_of[f.labels] for value in site.values for f in value.factors)
    return Place(node=site.node, op=site.op, module=site.module, classes=arrays)
