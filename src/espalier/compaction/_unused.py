"""Unused path removal: what zeros make irrelevant is made zero itself, and nothing else changes."""

import copy

from torch import nn

from espalier.compaction._dead import find_dead, fold_, folds
from espalier.graph._groups import ChannelGraph
from espalier.graph._labels import Ids
from espalier.graph._trace import Example, channel_graph


def remove_unused_paths(
    model: nn.Module, example_input: Example, *, graph: ChannelGraph | None = None
) -> nn.Module:
    """A copy in which every channel that nothing reads, or that is zero, is zero throughout.

    The function stays what it is (:mod:`espalier.compaction._dead`); a constant that a removed
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
