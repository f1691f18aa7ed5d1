"""A budget small enough to try every way of sharing it out."""

from itertools import product

import torch
from torch import nn

from espalier.planning import plan

SIZES = (8, 12, 10)


def network():
    """Three tensors of 8, 12 and 10 weights."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 2, bias=False), nn.Linear(2, 6, bias=False), nn.Linear(5, 2, bias=False)
    )


def losses(keep):
    """What each tensor alone costs at a keep: convex, and of very different weight."""
    parts = ((1 - k / n) ** 2 for k, n in zip(keep, SIZES, strict=True))
    return [w * part for w, part in zip((1.0, 0.1, 4.0), parts, strict=True)]


def counts(masks):
    return [int(mask.sum()) for mask in masks.values()]


def worth(masks):
    """−error of masks; every tensor's loss adds up."""
    return -sum(losses(counts(masks)))


def every(limit):
    """All keeps within a limit of weights."""
    ranges = (range(1, n + 1) for n in SIZES)
    return [keep for keep in product(*ranges) if sum(keep) <= limit]


def allotted(rule, density=0.5):
    """The keeps that a rule allots."""
    made = plan(network(), density=density, allocation=rule)
    return tuple(entry.keep for entry in made.entries.values())


class Spy:
    """An allocation that hands out the allotment it was given."""

    def allot(self, of):
        self.of = of
        return of.filled(of.least)

    def __call__(self, layers, density):
        raise AssertionError


def allotment(density=0.5, **given):
    spy = Spy()
    plan(network(), density=density, allocation=spy, **given)
    return spy.of
