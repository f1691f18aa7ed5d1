"""What a smaller model cannot do without is found by halving; the rest goes all the same."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from espalier.compaction import AttributeEdit, Edits, apply_edits, compact
from espalier.compaction._localise import MOST, Failed, localised
from espalier.errors import RequestError
from espalier.graph import channel_graph


class Net(nn.Module):
    """Modules by name, and a forward given as a function of the net and its input."""

    def __init__(self, forward, **modules):
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)
        self._forward = forward

    def forward(self, x):
        return self._forward(self, x)


def halved(net, example, *layers):
    """The model without the first half of the filters of some layers."""
    graph = channel_graph(net.eval(), example)
    ids = [graph.couplings(f"{layer}.weight") for layer in layers]
    gone = sorted({int(i) for some in ids for i in some[: len(some) // 2]})
    graph.zero_(net, gone, consumers=False)
    return compact(net, example)


def test_a_model_whose_width_enters_its_result_keeps_that_width_alone():
    net = Net(
        lambda n, x: (lambda y: (n.c(y), y.sum(1) / y.shape[1]))(n.b(n.a(x).relu())),
        a=nn.Conv2d(3, 6, 1), b=nn.Conv2d(6, 8, 1), c=nn.Conv2d(8, 3, 1),
    )  # fmt: skip
    small = halved(net, torch.randn(2, 3, 8, 8), "a", "b")
    assert (small.model.a.out_channels, small.model.b.out_channels) == (3, 8)
    ((reason, count),) = small.kept_back.items()
    assert ("computes something else" in reason, count) == (True, 4)


def test_a_write_into_part_of_a_tensor_makes_no_constant_of_it():
    def forward(n, x):
        y = n.b(n.a(x).relu())
        y[..., 1:] -= 1
        return n.c(y)

    net = Net(forward, a=nn.Conv2d(3, 6, 1), b=nn.Conv2d(6, 8, 1), c=nn.Conv2d(8, 3, 1))
    small = halved(net, torch.randn(2, 3, 8, 8), "a", "b")
    assert (small.model.a.out_channels, small.model.b.out_channels) == (3, 8)
    assert small.kept_back == {}  # known to be no constant, not found out by trying


def test_two_constants_side_by_side_are_no_constant():
    net = Net(
        lambda n, x: n.c(torch.cat([n.m(n.a(x)), n.n(n.a(x))], -1)),
        a=nn.Conv2d(3, 8, 1), m=nn.BatchNorm2d(8), n=nn.BatchNorm2d(8), c=nn.Conv2d(8, 3, 1),
    )  # fmt: skip
    nn.init.normal_(net.m.bias)
    with torch.no_grad():
        net.a.weight[:4], net.a.bias[:4] = 0, 0
    small = compact(net.eval(), torch.randn(2, 3, 8, 8))
    assert (small.removed, small.constant, small.kept_back) == (0, 0, {})


def test_a_constant_that_padding_breaks_at_another_size_is_not_folded():
    def forward(n, x):
        y = n.m(n.a(x))
        more = -y.shape[-1] % 4
        return n.c(F.pad(y, (0, more, 0, more)))

    torch.manual_seed(0)
    net = Net(forward, a=nn.Conv2d(3, 8, 1), m=nn.BatchNorm2d(8), c=nn.Conv2d(8, 3, 1)).eval()
    nn.init.normal_(net.m.bias)
    with torch.no_grad():
        net.a.weight[:4], net.a.bias[:4] = 0, 0
    small = compact(net, torch.randn(2, 3, 8, 8))  # of which no pixel is padded
    x = torch.randn(2, 3, 9, 9)
    assert small.proof.other_sizes > 0
    assert torch.allclose(small.model(x), net(x), atol=1e-5)


class Blur(nn.Module):
    """A filter for every channel, whose number of groups is an attribute."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels
        self.register_buffer("kernel", torch.rand(channels, 1, 3, 3))

    def forward(self, x):
        return F.conv2d(x, self.kernel, groups=self.channels)


def test_the_groups_of_a_functional_convolution_follow():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), Blur(8), nn.Conv2d(8, 3, 1))
    small = halved(net, torch.randn(2, 3, 8, 8), "0")
    assert (small.model[1].channels, tuple(small.model[1].kernel.shape)) == (4, (4, 1, 3, 3))


class Shaped(nn.Module):
    """Heads and their width as one tuple, or as a list."""

    def __init__(self, kind):
        super().__init__()
        self.shape = kind((4, 6))
        self.a, self.b = nn.Linear(5, 24), nn.Linear(24, 3)

    def forward(self, x):
        y = self.a(x).view(len(x), *self.shape).softmax(-1)
        return self.b(y.flatten(1))


@pytest.mark.parametrize("kind", [tuple, list])
def test_sizes_in_a_tuple_or_list_follow(kind):
    net = Shaped(kind)
    with torch.no_grad():
        net.b.weight[:, 6:12] = 0
    small = compact(net, torch.randn(2, 5))
    assert (small.model.shape, net.shape) == (kind((3, 6)), kind((4, 6)))
    again = apply_edits(Shaped(kind), Edits.from_data(small.edits.as_data()))
    assert again.shape == small.model.shape
    assert small.edits.attributes == (
        AttributeEdit(module="", name="shape", before=(4, 6), after=(3, 6)),
    )


class Conv1D(nn.Module):
    """The linear layer of GPT-2: (in, out), its width as an attribute that a view reads."""

    def __init__(self, nf, nx):
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight, self.bias = nn.Parameter(torch.randn(nx, nf)), nn.Parameter(torch.randn(nf))

    def forward(self, x):
        rows = torch.addmm(self.bias, x.view(-1, x.shape[-1]), self.weight)
        return rows.view(*x.shape[:-1], self.nf)


def test_an_attribute_that_follows_its_weight_is_not_edited_twice():
    net = nn.Sequential(Conv1D(8, 4), nn.GELU(), Conv1D(4, 8))
    with torch.no_grad():
        net[2].weight[:3] = 0
    assert compact(net, torch.randn(2, 5, 4)).model[0].nf == 5


def test_a_tensor_without_entries_stops_nothing():
    def forward(n, x):
        y = n.a(x).relu()
        return n.b(torch.cat([y[..., :8] * 2, y[..., 8:]], -1))

    net = Net(forward, a=nn.Linear(4, 8), b=nn.Linear(8, 3))
    with torch.no_grad():
        net.a.weight[:3], net.a.bias[:3] = 0, 0
    assert compact(net, torch.randn(2, 4)).proof.holds


def chain(count):
    net = nn.Sequential(*[nn.Linear(4, 4) for _ in range(count + 1)])
    graph = channel_graph(net, torch.zeros(1, 4))
    groups = [np.array([u.id for u in g.units]) for g in graph.removable]
    return graph, groups


@pytest.mark.parametrize("guilty", [(), (0,), (5,), (2, 6)])
def test_halving_finds_what_is_guilty_and_nothing_else(guilty):
    graph, groups = chain(8)
    bad = np.concatenate([np.zeros(0, dtype=np.int64), *(groups[i] for i in guilty)])
    calls = []

    def without(gone):
        calls.append(gone)
        if np.isin(gone, bad).any():
            return Failed(why="no", suspects=gone[:0])
        return type("Found", (), {"gone": gone})()

    found, stays = localised(graph, np.sort(np.concatenate(groups)), without)
    # All groups are of one kind: two that fail condemn the rest, so with two guilty some innocent ones
    # that come later may stay; the guilty ones always do.
    assert set(bad.tolist()) <= set(stays)
    assert not np.isin(found.gone, bad).any()
    if len(guilty) < 2:
        assert set(stays) == set(bad.tolist())
    assert len(calls) <= MOST + 2


def test_what_the_model_raises_is_never_raised_at_the_caller():
    class Unlike(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

        def __deepcopy__(self, memo):
            if memo:  # a smaller one is being made
                raise ZeroDivisionError("cannot be copied")
            return self

        def forward(self, x):
            return self.b(self.a(x))

    net = Unlike()
    with torch.no_grad():
        net.a.weight[:2], net.a.bias[:2] = 0, 0
    small = compact(net, torch.randn(2, 3))
    ((reason, count),) = small.kept_back.items()
    assert ("cannot be copied" in reason, count, small.removed) == (True, 2, 0)


class Flat(nn.Module):
    """A forward that says how many entries are left: the product of channels and positions."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3), nn.Linear(16 * 6 * 6, 4)

    def forward(self, x):
        return self.b(self.a(x).relu().view(-1, 16 * 6 * 6))


def test_a_literal_in_the_forward_follows_and_the_class_keeps_its_own():
    net, x = Flat(), torch.randn(2, 3, 8, 8)
    small = halved(net, x, "a")
    assert (small.model.a.out_channels, small.model.b.in_features, small.kept_back) == (8, 288, {})
    assert [(e.before, e.after) for e in small.edits.attributes] == [((576,), (288,))]
    assert net(x).shape == (2, 4)  # the caller's model and its class are as they were
    again = apply_edits(Flat(), Edits.from_data(small.edits.as_data())).eval()
    again.load_state_dict(small.model.state_dict())
    assert torch.equal(again(x), small.model(x))
    assert torch.equal(copy.deepcopy(small.model)(x), small.model(x))
    assert compact(small.model, x).removed == 0  # it exports like any other


def test_a_literal_that_is_not_there_is_refused():
    edit = AttributeEdit(module="", name="forward", before=(577,), after=(288,))
    with pytest.raises(RequestError, match="577"):
        apply_edits(Flat(), Edits(attributes=(edit,)))


class Mixed(nn.Module):
    """Parts of a list of sizes, each to its own convolution."""

    def __init__(self):
        super().__init__()
        self.splits = [6, 6]
        self.parts = nn.ModuleList([nn.Conv2d(6, 6, 1, groups=6) for _ in range(2)])

    def forward(self, x):
        parts = torch.split(x, self.splits, 1)
        return torch.cat([p(y) for p, y in zip(self.parts, parts, strict=True)], 1)


def test_sizes_of_parts_follow():
    net = nn.Sequential(nn.Conv2d(3, 12, 1), Mixed(), nn.Conv2d(12, 2, 1))
    with torch.no_grad():
        for channels in ([0, 1, 2], [6, 7, 8]):
            net[0].weight[channels], net[0].bias[channels] = 0, 0
            net[2].weight[:, channels] = 0
    small = compact(net, torch.randn(2, 3, 8, 8))
    assert (small.model[1].splits, small.kept_back) == ([3, 3], {})


class Cut(nn.Module):
    """Cuts by a size of its own; parts of the old size fail in a module further on."""

    def __init__(self):
        super().__init__()
        self.split_size = 8
        self.three, self.two, self.one = Conv1D(24, 6), Conv1D(4, 8), Conv1D(4, 8)

    def forward(self, x):
        a, b, c = self.three(x).split(self.split_size, dim=-1)
        return self.two(a * b) + self.one(c)


def test_a_size_is_looked_for_around_the_module_that_fails_of_it():
    torch.manual_seed(0)
    net = Cut()
    with torch.no_grad():
        net.three.weight.view(6, 3, 8)[..., 2:4], net.three.bias.view(3, 8)[:, 2:4] = 0, 0
        net.two.weight[2:4], net.one.weight[2:4] = 0, 0
    small = compact(net, torch.randn(2, 5, 6))
    assert (small.model.split_size, small.removed, small.kept_back) == (6, 2, {})


class AsManyOut(nn.Module):
    """As many inputs as outputs, of which not equally many stay."""

    def __init__(self):
        super().__init__()
        self.in_channels, self.out_channels = 8, 8
        self.a, self.b = nn.Conv1d(4, 8, 1), nn.Conv1d(4, 8, 1)

    def forward(self, x):
        left, right = x.split(self.in_channels // 2, 1)
        y = self.a(left) + self.b(right)
        return y.view(y.shape[0], self.out_channels, 5, -1).sum(2)


def test_two_attributes_of_one_size_become_two_sizes():
    torch.manual_seed(0)
    inner = AsManyOut()
    net = nn.Sequential(nn.Conv1d(3, 8, 1), inner, nn.Conv1d(8, 2, 1))
    with torch.no_grad():
        for part in (inner.a, inner.b):
            part.weight[:, 1], part.weight[:3], part.bias[:3] = 0, 0, 0
        net[2].weight[:, :3] = 0
    small = compact(net, torch.randn(2, 3, 10))
    assert (small.model[1].in_channels, small.model[1].out_channels) == (6, 5)
    assert (small.removed, small.kept_back) == (4, {})
