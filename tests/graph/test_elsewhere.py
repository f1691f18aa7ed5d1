"""Channels that only training or another size reads are frozen, and no others."""

import pytest
import torch
from torch import nn

from espalier.graph import channel_graph


class Auxiliary(nn.Module):
    """A head that runs in training, or at sizes above eight."""

    def __init__(self, when):
        super().__init__()
        self.when = when
        self.a, self.b, self.c = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 5, 1), nn.Conv2d(5, 2, 1)
        self.norm, self.head, self.never = nn.BatchNorm2d(6), nn.Conv2d(6, 4, 1), nn.Linear(5, 5)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls.add_(1)
        y = self.norm(self.a(x))
        extra = self.when(self, x)
        out = self.c(self.b(y).relu())
        return (out, self.head(y)) if extra else out


WHEN = {
    "training": lambda net, x: net.training,
    "another size": lambda net, x: x.shape[-1] > 8,
}


@pytest.mark.parametrize("where", WHEN)
def test_what_another_run_reads_is_frozen(where):
    net = Auxiliary(WHEN[where]).eval()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    graph = channel_graph(net, torch.zeros(2, 3, 8, 8))
    assert not graph.may_go("a.weight").any()
    assert graph.may_go("b.weight").all()  # the main path alone reads these
    reasons = {
        why for group in graph.groups if ("a.weight", 0) in group.producers for why in group.frozen
    }
    assert any(where in why for why in reasons)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert not any(module.training for module in net.modules())


def test_a_module_that_no_run_uses_freezes_nothing_else():
    graph = channel_graph(Auxiliary(lambda net, x: False).eval(), torch.zeros(2, 3, 8, 8))
    assert graph.may_go("a.weight").all()
    assert not graph.may_go("never.weight").any()


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_a_wrapper_is_left_off(wrap):
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    graph = channel_graph(wrap(net), torch.zeros(2, 3))
    assert graph.may_go("0.weight").all()


@pytest.mark.parametrize("kind", [tuple, list, lambda xs: dict(zip(["x", "y"], xs, strict=True))])
def test_an_example_may_be_a_tuple_a_list_or_a_mapping(kind):
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x, y):
            return self.b(self.a(x + y))

    graph = channel_graph(Sum(), kind([torch.zeros(2, 3), torch.zeros(2, 3)]))
    assert graph.may_go("a.weight").all()
