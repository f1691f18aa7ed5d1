"""Compaction tried out on widths, before any training: what would really go, and what would be left."""

import copy
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from espalier._ground.example import Example
from espalier.compaction._dead import find_dead, fold_, folds
from espalier.compaction._proof import Proof, proved
from espalier.compaction._settle import settle
from espalier.compaction._trials import drawn
from espalier.graph._groups import ChannelGraph
from espalier.graph._labels import Ids

CONSTANT = "without its filters it is a constant other than zero that cannot be folded exactly"
READ = "what is left still reads it"


@dataclass(frozen=True, kw_only=True, eq=False)
class Rehearsal:
    """What compaction made of a model from which some classes had been taken.

    Attributes:
        model: The compact model; its values mean nothing.
        gone: The classes removed; more than asked where others served them alone.
        kept_back: Class that was asked for and is still there -> why.
    """

    model: nn.Module = field(repr=False)
    gone: Ids
    kept_back: dict[int, str]


def rehearse(graph: ChannelGraph, model: nn.Module, gone: Ids, example: Example) -> Rehearsal:
    """Compact a copy of a model in which the slices of some classes are zero.

    Args:
        graph: Of the model.
        model: Not modified.
        gone: The classes that are to go.
        example: Inputs, as ``graph`` was made with.

    Raises:
        RunError: Nothing that was tried gives a module that computes the same.

    Example:
        >>> from espalier.graph import channel_graph
        >>> net, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.zeros(2, 3)
        >>> seen = rehearse(channel_graph(net, x), net, np.array([1, 2]), x)
        >>> seen.model[0], seen.kept_back
        (Linear(in_features=3, out_features=2, bias=True), {})
    """
    masked = copy.deepcopy(model)
    _waken_(masked)
    graph.zero_(masked, gone.tolist())
    dead = find_dead(graph, masked)
    # Once: the batches, and what the masked model makes of them, are the same for every attempt.
    trials = drawn(masked, example, random_batches=1)

    def prepare(gone: Ids) -> nn.Module:
        dense = copy.deepcopy(masked)
        fold_(dense, folds(dead, gone))
        return dense

    def prove(small: nn.Module) -> Proof:
        return proved(masked, small, trials)

    found = settle(graph, dead.classes, prepare, prove, example)
    reasons = dict.fromkeys(gone.tolist(), READ) | dict.fromkeys(dead.constant.tolist(), CONSTANT)
    reasons |= found.kept_back
    back = np.setdiff1d(gone, found.gone).tolist()
    return Rehearsal(
        model=found.model, gone=found.gone, kept_back={one: reasons[one] for one in back}
    )


@torch.no_grad()
def _waken_(model: nn.Module) -> None:
    """Values in place of parameters that are zero throughout, which would hide what they multiply.

    Models begin with γ = 0 at the end of a block, or with tables of zeros: training moves them.
    """
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.is_floating_point() and not parameter.any():
            drawn = torch.rand(parameter.shape, generator=generator) + 0.5
            # Small where many are summed, as at any initialisation.
            scale = 1.0 if parameter.dim() < 2 else parameter[0].numel() ** -0.5
            parameter.copy_(drawn * scale)
