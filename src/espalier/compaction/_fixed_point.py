"""Purification and unused path removal in turn, until nothing changes."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from espalier.compaction._dead import remove_unused_paths_
from espalier.compaction._purification import (
    Emptiness,
    Reading,
    Thresholds,
    column_energies,
    filter_energies,
    live_mean,
    weak_as_empty,
)
from espalier.errors import UnknownNameError, nearest
from espalier.graph._groups import Axis, ChannelGraph
from espalier.graph._labels import Ids
from espalier.measure import layer_kinds


@dataclass(frozen=True, kw_only=True, eq=False)
class Layers:
    """The axes on which a model is judged, with the scales of its thresholds.

    Attributes:
        graph: Of the model.
        reads: Input axis of a weight -> mean ‖column‖² and mean σ of what is not zero.
        writes: Output axis of a weight -> mean ‖filter‖² of what is not zero.
    """

    graph: ChannelGraph
    reads: Mapping[Axis, tuple[float, float]]
    writes: Mapping[Axis, float]


def judged(model: nn.Module, graph: ChannelGraph, layers: Iterable[str] | None = None) -> Layers:
    """The weights of convolutions and linear layers, or those of them that are named.

    Args:
        model: The hard-pruned model; its scales hold for every later pass.
        graph: Of the model.
        layers: Names of weights; all by default.

    Raises:
        UnknownNameError: A name that is no weight of a convolution or linear layer.
    """
    weights = {n for n, kind in layer_kinds(model).items() if kind.is_conv or kind.is_linear}
    chosen = weights if layers is None else set(layers)
    for name in sorted(chosen - weights):
        raise UnknownNameError(
            f"{name!r} is no weight of a convolution or linear layer; {nearest(name, weights)}"
        )
    tensors = dict(model.named_parameters())
    reads, writes = {}, {}
    for name, axis in graph.classes:
        if name not in chosen or axis > 1:
            continue
        if (name, axis) in graph.consuming:
            columns = column_energies(tensors[name], axis)
            channel = _channels(graph.classes[name, axis], columns)[1]
            sigma = weak_as_empty(columns.flatten(), channel, 0.0).sigma
            reads[name, axis] = (live_mean(columns), live_mean(sigma))
        elif (name, axis) in graph.producing:
            writes[name, axis] = live_mean(filter_energies(tensors[name], axis))
    return Layers(graph=graph, reads=reads, writes=writes)


def purified(
    model: nn.Module, layers: Layers, thresholds: Thresholds, reading: Reading = weak_as_empty
) -> tuple[nn.Module, Ids]:
    """A copy of a model, purified to a fixed point, and the classes of channels that are gone.

    One pass: in every weight the weak columns (reading A) and the weak channels are set to zero;
    every class of coupled channels whose filters are *all* weak goes, with its biases and
    BatchNorm constants, and all that reads it; then what nothing reads any more
    (:func:`~espalier.compaction.remove_unused_paths`), so that a class goes when *all* its reads are weak.

    On a chain a class is filter j of layer i − 1 and channel j of layer i: one filter and one read,
    so these are the two halves of Algorithm 1. In a residual stage a weak channel of one layer is
    set to zero in that layer; its filters go when every layer that reads them agrees, or when every
    layer that writes them is weak. With reading A more zeros only make more things weak, so the
    fixed point does not depend on the order of the rules.

    Args:
        model: As it was for :func:`judged`. Not modified.
        layers: What is judged, and the scales.
        thresholds: Multiples of those scales.
        reading: How weak columns count.
    """
    found = copy.deepcopy(model)
    tensors = dict(found.named_parameters())
    gone = remove_unused_paths_(found, layers.graph)
    left = _nonzero(tensors)
    while True:
        for axis in layers.reads:
            _weaken_(tensors[axis[0]], axis, layers, thresholds, reading)
        layers.graph.zero_(found, _unwritten(tensors, layers, thresholds.filter).tolist())
        gone = remove_unused_paths_(found, layers.graph)
        now = _nonzero(tensors)
        if now == left:
            return found, gone
        left = now


@torch.no_grad()
def _weaken_(
    weight: Tensor, axis: Axis, layers: Layers, thresholds: Thresholds, reading: Reading
) -> None:
    """Set the weak columns and channels of one weight to zero."""
    column_scale, energy_scale = layers.reads[axis]
    columns = column_energies(weight, axis[1])
    ids, channel = _channels(layers.graph.classes[axis], columns)
    found: Emptiness = reading(columns.flatten(), channel, thresholds.column * column_scale)
    weak = (found.eta < thresholds.fraction) & (found.sigma < thresholds.energy * energy_scale)
    stays = (found.stays & ~weak[channel]).reshape(columns.shape)
    kernel = weight.shape[2:]
    mask = stays.reshape(len(ids), 1, *kernel).movedim(0, axis[1])
    weight.mul_(mask.to(weight.device, weight.dtype)).add_(0.0)  # +0.0, never -0.0


def _channels(ids: Ids, columns: Tensor) -> tuple[Ids, Tensor]:
    """The classes of an axis, and for every column the number of its channel, from 0.

    A linear layer behind a flattening reads one channel by a block of inputs, which share a class.
    An index without a class is a channel of its own.
    """
    own = np.where(ids >= 0, ids, ids.max(initial=0) + 1 + np.arange(len(ids)))
    number = np.unique(own, return_inverse=True)[1].reshape(-1)
    return ids, torch.from_numpy(number).repeat_interleave(columns.shape[1])


def _unwritten(tensors: Mapping[str, Tensor], layers: Layers, threshold: float) -> Ids:
    """The classes that may go and all of whose filters are weak."""
    written, weak = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    if not threshold:
        return weak[0]
    graph = layers.graph
    for (name, axis), ids in graph.classes.items():
        tensor = tensors.get(name)
        if tensor is None or tensor.dim() < 2 or (name, axis) not in graph.producing:
            continue
        energies = filter_energies(tensor, axis)
        scale = layers.writes.get((name, axis), 0.0)
        below = ((energies < threshold * scale) | (energies == 0)).numpy()
        written.append(ids[~below])
        weak.append(ids[below])
    frozen = np.fromiter(graph.frozen, dtype=np.int64, count=len(graph.frozen))
    # One filter that is not weak, in any layer of a stage, keeps the class in all of them.
    found = np.setdiff1d(np.concatenate(weak), np.concatenate(written))
    return np.setdiff1d(found[found >= 0], frozen)


def _nonzero(tensors: Mapping[str, Tensor]) -> int:
    return sum(int(t.count_nonzero()) for t in tensors.values())
