"""Filters by conditional entropy: the entropies by hand, and the order in which filters are chosen."""

import math

import pytest
import torch
from torch import nn

import espalier as esp
from espalier.errors import RequestError
from espalier.methods import FilterEntropy, Setting
from espalier.methods._filter_entropy import binned, conditional_entropy, order
from espalier.sets import Filters

A = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
B = torch.tensor([0, 0, 1, 1, 0, 0, 1, 1])


def test_the_conditional_entropy_by_hand():
    """H(A | A) = 0, H(A | B) = H(A) = ln 2; of 3 in one cell, 2 alike: ¾·H(⅓) + ¼·0."""
    assert conditional_entropy(A, A) == pytest.approx(0.0, abs=1e-12)
    assert conditional_entropy(A, B) == pytest.approx(math.log(2))
    third = -(1 / 3) * math.log(1 / 3) - (2 / 3) * math.log(2 / 3)
    y, cells = torch.tensor([0, 0, 1, 1]), torch.tensor([5, 5, 5, 0])
    assert conditional_entropy(y, cells) == pytest.approx(0.75 * third)


def test_bins_are_equal_parts_of_a_filters_own_range():
    x = torch.tensor([[0.0, -100.0], [0.26, 0.0], [0.74, 90.0], [1.0, 100.0]])
    assert binned(x, 4).tolist() == [[0, 0], [1, 2], [2, 3], [3, 3]]


def test_what_repeats_a_chosen_filter_comes_after_what_adds_to_it():
    """Y = A xor B: no filter says anything alone, A and B together say all."""
    y = (A != B).long()
    assert order(torch.stack([A, A, B, 0 * A], 1), y) == [0, 2, 1, 3]


def test_the_most_telling_filter_is_first_and_a_constant_one_last():
    y = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2])
    assert order(torch.stack([0 * A, B, A], 1), y)[0] == 2
    assert order(torch.stack([0 * A, B, A], 1), y)[-1] == 0


class Colours:
    """Images of one pixel in three channels; the class is the brighter of the first two."""

    x = torch.rand(64, 3, 1, 1, generator=torch.Generator().manual_seed(0))

    def inputs(self, part, limit=None):
        return iter(self.x.split(16)[:limit])


class Net(nn.Module):
    """Filter 0 is dead, 1 repeats 3, 2 and 3 are the two channels that decide."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1, bias=False)
        self.fc = nn.Linear(4, 2, bias=False)
        with torch.no_grad():
            self.conv.weight.zero_()
            for o, i in ((1, 1), (2, 0), (3, 1)):
                self.conv.weight[o, i] = 1.0
            self.conv.weight[0, 2] = 1e-3
            self.conv.weight[1] *= 2.0  # the largest: by magnitude it would stay
            self.fc.weight.copy_(torch.tensor([[0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]))

    def forward(self, x):
        return self.fc(self.conv(x).flatten(1))


def test_the_filters_that_decide_stay_and_what_repeats_one_of_them_goes():
    model = Net()
    with torch.no_grad():
        model.conv.weight[0] = 0.0
        model.conv.weight[0, 2] = 1e-9
    plan = esp.plan(model, set=Filters(), keep={"conv.weight": 2})
    setting = Setting(optimizer=torch.optim.Adam, task=Colours())
    handle = FilterEntropy(batches=4, bins=4).attach(model, plan, setting)
    kept = [o for o in range(4) if model.conv.weight[o].any()]
    assert 2 in kept
    assert kept != [0, 2]
    assert handle.nothing_to_cut()
    assert not model.conv._forward_hooks


def test_a_model_that_decides_among_no_classes_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 4, 1))
    setting = Setting(optimizer=torch.optim.Adam, task=Colours())
    plan = esp.plan(model, set=Filters(), density=0.5, include=["0.weight"])
    with pytest.raises(RequestError, match="one row of class scores"):
        FilterEntropy().attach(model, plan, setting)
    assert not model[0]._forward_hooks
