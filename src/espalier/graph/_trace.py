"""From a module to its channel graph."""

from collections.abc import Mapping

import numpy as np
from torch import nn
from torch.export import ExportedProgram

from espalier._ground.example import Example, arguments
from espalier._ground.wrapping import unwrapped
from espalier.graph._context import Site
from espalier.graph._elsewhere import freeze_elsewhere
from espalier.graph._exporting import exported
from espalier.graph._groups import Axis, ChannelGraph, Place
from espalier.graph._interpreter import Walk, walk
from espalier.graph._labels import SILENT, Ids
from espalier.graph._norms import Norm, norm_axes
from espalier.graph._products import resolved
from espalier.graph._standardised import standardising

UNUSED = "not used in the forward that was exported"
HEADS = "an attention of PyTorch's with a bias or zeros of its own among its keys and values"


def channel_graph(model: nn.Module, example_inputs: Example) -> ChannelGraph:
    """Find which channels of which parameters live and die together.

    The model is exported in evaluation mode and its graph of ATen operations interpreted: every
    index of every axis of every parameter carries a label, and operations unify labels. An
    operation that is not understood freezes the labels it touches, and is named: a class is at
    worst not removable, never wrongly so.

    Channels that a module reads in training or at another size alone, so far as one run of each shows
    it, are frozen.

    Args:
        model: Any module that ``torch.export`` can export, also in the wrappers of ``torch.compile``,
            ``DataParallel`` and ``DistributedDataParallel``. Not modified.
        example_inputs: A tensor, a tuple of positional arguments, or a mapping of named ones.

    Returns:
        The graph: ``groups``, ``couplings(parameter, axis)``, ``table()``.

    Raises:
        RequestError: The model cannot be exported.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> group, = channel_graph(net, torch.zeros(2, 3)).removable
        >>> group.producers, group.consumers, len(group.units)
        ((('0.weight', 0), ('0.bias', 0)), (('2.weight', 1),), 4)
    """
    positional, named = arguments(example_inputs)
    model = unwrapped(model)
    program = exported(model, positional, named)
    axes = norm_axes(model, program) | standardising(model, program)
    found = walk(program, norm_axes=axes)
    _tie(found, model)
    _fuse(found, model)
    freeze_elsewhere(found, model, (positional, named))
    return _graph(found, program, positional, named)


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
    """Freeze PyTorch's attention where nothing stands in for it that has fewer heads."""
    for path, module in model.named_modules():
        if not isinstance(module, nn.MultiheadAttention) or (
            module.bias_k is None and module.bias_v is None and not module.add_zero_attn
        ):
            continue
        for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
            for axis in (0, 1):
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
    produced, consumed, following = labels.roles()
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
        if following[ids].any():
            continue
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
        norms=tuple(
            Norm(
                module=path,
                axis=found.context.norm_axes[path],
                size=len(calls[0]),
                classes=number[roots[np.concatenate(calls)]],
            )
            for path, calls in found.context.norms.items()
        ),
    )


def _resolved(site: Site, class_of: Ids) -> Place:
    arrays = tuple(class_of[f.labels] for value in site.values for f in value.factors)
    return Place(node=site.node, op=site.op, module=site.module, classes=arrays)
