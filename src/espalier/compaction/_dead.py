"""Which channels can go: the closure of what zeros in the weights make irrelevant.

A class of channels is dead when nothing that stays reads it: every read of it has a zero weight
slice, or reads a channel that is the constant zero, or writes only into classes that are dead
themselves. The last makes it a closure, computed to a fixed point. A channel that is a constant
other than zero (a filter of zeros behind BatchNorm's β) may go where the constant can be folded
into what follows.

:func:`remove_unused_paths` makes zero itself what zeros make irrelevant, and changes nothing else.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from espalier._ground.example import Example
from espalier._ground.modes import evaluating
from espalier._ground.wrapping import plain
from espalier.graph._context import Read
from espalier.graph._groups import ChannelGraph
from espalier.graph._interpreter import walk
from espalier.graph._labels import Ids
from espalier.graph._trace import channel_graph


@dataclass(frozen=True, kw_only=True, eq=False)
class Dead:
    """What was found.

    Attributes:
        classes: Ids of the classes that can go, ascending.
        constant: Ids of those that cannot, only because they are a constant other than zero that
            cannot be folded exactly (zero padding, or no bias to take it).
        reads: Every place where channels are read, with classes in place of labels.
    """

    classes: Ids
    constant: Ids
    reads: tuple["ClassRead", ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassRead:
    """A read whose labels are classes (-1: no channel, stays)."""

    inputs: Ids
    outputs: Ids | None
    read: Read

    def contributions(self, gone: Ids) -> NDArray[np.bool_]:
        """For every input: does a weight carry it into something that stays?"""
        rows = self.read.nonzero
        if self.outputs is not None and gone.size:
            # What is written into a class that goes is read by nobody. Outputs that are None stay.
            rows = rows[~np.isin(self.outputs, gone)]
        found: NDArray[np.bool_] = np.asarray(rows.any(axis=0))
        return found


def find_dead(graph: ChannelGraph, model: nn.Module) -> Dead:
    """Find the classes that zeros make removable.

    Args:
        graph: Of this model, with classes frozen that must stay.
        model: With zeros in its weights. Not modified.
    """
    tensors = {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }
    inputs = tuple(t for t in pytree.tree_leaves(graph.inputs) if isinstance(t, Tensor))
    with evaluating(model), torch.no_grad():
        axes = {norm.module: norm.axis for norm in graph.norms}
        found = walk(graph.program, tensors, inputs, axes)
    # This walk has numbered its labels anew. What both walks name alike is (tensor, axis), and
    # over that every label gets the class it has in the graph.
    roots = found.context.labels.roots()
    class_of = np.full(len(roots) + 1, -1, dtype=np.int64)
    for axis, ids in found.axes.items():
        class_of[roots[ids]] = graph.classes[axis]
    reads = tuple(
        ClassRead(
            inputs=class_of[roots[r.inputs]],
            outputs=None if r.outputs is None else class_of[roots[r.outputs]],
            read=r,
        )
        for r in found.context.reads
    )
    # ``loose`` is what could go if every constant could be folded; the difference is reported.
    strict = _closure(graph, reads, ignore_constants=False)
    loose = _closure(graph, reads, ignore_constants=True)
    return Dead(classes=strict, constant=np.setdiff1d(loose, strict), reads=reads)


def zero_but_frozen(graph: ChannelGraph, model: nn.Module) -> dict[int, str]:
    """The frozen classes whose every filter is zero, or every weight that reads them: and why.

    Only matrices and kernels count, for a zero bias says nothing; and no tables, all of whose axes
    are created with them (biases of attention by position).
    """
    tensors = dict(model.named_parameters(remove_duplicate=False))
    size = 1 + max((int(ids.max(initial=-1)) for ids in graph.classes.values()), default=-1)
    found: set[int] = set()
    for side in (graph.producing, graph.consuming):
        slices, zero = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
        for name, axis in side:
            ids, tensor = graph.classes[name, axis], tensors.get(name)
            if tensor is None or tensor.dim() < 2 or _is_table(graph, name, axis, tensor.dim()):
                continue
            flat = tensor.detach().movedim(axis, 0).flatten(1)
            silent = (flat == 0).all(1).cpu().numpy()
            np.add.at(slices, ids[ids >= 0], 1)
            np.add.at(zero, ids[(ids >= 0) & silent], 1)
        found.update(np.flatnonzero((slices > 0) & (slices == zero)).tolist())
    return {one: graph.frozen[one][0] for one in sorted(found) if graph.frozen.get(one)}


def _is_table(graph: ChannelGraph, name: str, axis: int, rank: int) -> bool:
    others = [(name, other) for other in range(rank) if other != axis]
    creating = [o for o in others if o in graph.producing and (graph.classes[o] >= 0).any()]
    return (name, axis) in graph.producing and any(o not in graph.consuming for o in creating)


def _closure(graph: ChannelGraph, reads: tuple[ClassRead, ...], ignore_constants: bool) -> Ids:
    everything = np.unique(np.concatenate([*graph.classes.values(), np.array([-1])]))
    frozen = np.fromiter(graph.frozen, dtype=np.int64, count=len(graph.frozen))
    candidates = np.setdiff1d(everything[everything >= 0], frozen)
    # ``gone`` only grows: the more goes, the fewer outputs stay to be read for. So equal sizes
    # mean equal sets. Two classes that read nothing but each other stay, which is safe.
    gone = candidates[:0]
    while True:
        needed = [candidates[:0]]
        for one in reads:
            const = one.read.const
            # NaN, not known, is unequal to 0: what is not known counts as needed.
            harmless = const == 0
            if ignore_constants or (one.read.bias is not None and one.read.weight is not None):
                # Any constant will do where its contribution can be added behind: there is a bias
                # or a running mean for it, and a weight (None, for one, where zeros are padded).
                harmless |= ~np.isnan(const)
            needed.append(one.inputs[one.contributions(gone) & ~harmless])
        now = np.setdiff1d(candidates, np.concatenate(needed))
        if now.size == gone.size:
            return gone
        gone = now


def folds(dead: Dead, gone: Ids) -> list[tuple[ClassRead, NDArray[np.float64]]]:
    """The reads that must take the constants of channels about to go, and those constants."""
    found = []
    for one in dead.reads:
        const = one.read.const
        hit = np.isin(one.inputs, gone) & ~np.isnan(const) & (const != 0)
        if hit.any() and one.read.bias is not None and one.read.weight is not None:
            found.append((one, np.where(hit, const, 0.0)))
    return found


@torch.no_grad()
def fold_(model: nn.Module, found: list[tuple[ClassRead, NDArray[np.float64]]]) -> None:
    """Fold constants into what reads them, in place.

    Args:
        model: The masked model (a copy); biases, or the running means that follow, take
            ``Σ weight · constant``.
        found: From :func:`folds`.
    """
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for one, values in found:
        if one.read.bias is None or one.read.weight is None:
            continue
        name, sign = one.read.bias
        # A sum over many channels, so in float64: the proof compares with a sum in another order.
        shift = one.read.weight().detach().double().cpu() @ torch.from_numpy(values)
        target = tensors[name]
        target.add_((sign * shift).to(target.device, target.dtype))


def remove_unused_paths(
    model: nn.Module, example_input: Example, *, graph: ChannelGraph | None = None
) -> nn.Module:
    """A copy in which every channel that nothing reads, or that is zero, is zero throughout.

    The function stays what it is (:func:`find_dead`); a constant that a removed
    channel was goes into the bias or running mean that follows, where that is exact. Afterwards
    the weights that are not zero are those of the compact model, under every way of counting.

    Args:
        model: Hard-pruned. Not modified.
        example_input: As :func:`~espalier.graph.channel_graph` takes it.
        graph: Of this model, if it is known already.

    Raises:
        RequestError: The model cannot be exported.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> with torch.no_grad():
        ...     _ = net[2].weight[:, 1:].zero_()
        >>> remove_unused_paths(net, torch.zeros(1, 2))[0].weight.count_nonzero(dim=1).tolist()
        [2, 0, 0]
    """
    model = plain(model)
    graph = channel_graph(model, example_input) if graph is None else graph
    found = copy.deepcopy(model)
    remove_unused_paths_(found, graph)
    return found


def remove_unused_paths_(model: nn.Module, graph: ChannelGraph) -> Ids:
    """The same in place; the classes that are removed now, also those that were before."""
    dead = find_dead(graph, model)
    fold_(model, folds(dead, dead.classes))
    graph.zero_(model, dead.classes.tolist())
    return dead.classes
