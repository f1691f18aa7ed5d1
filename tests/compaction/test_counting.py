"""Norms that go on counting the channels that are gone, against the norm with its zeros."""

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from espalier.compaction import Edits, NormEdit, SliceEdit, apply_edits, compact
from espalier.errors import RequestError, UnknownNameError
from espalier.graph import channel_graph

N = 12


class RootMeanSquare(nn.Module):
    """As transformers writes it."""

    def __init__(self, size, eps=1e-5):
        super().__init__()
        self.weight, self.variance_epsilon = nn.Parameter(torch.ones(size)), eps

    def forward(self, x):
        return (
            self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        )


class Shifted(RootMeanSquare):
    """Gemma's: γ is one more than its weight."""

    def forward(self, x):
        return (1 + self.weight) * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)


class Eager(nn.Module):
    """A LayerNorm over axis 1, written out."""

    def __init__(self, size):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(size)), nn.Parameter(torch.zeros(size))

    def forward(self, x):
        centred = x - x.mean(1, keepdim=True)
        y = centred / (centred.pow(2).mean(1, keepdim=True) + 1e-6).sqrt()
        return self.weight[:, None, None] * y + self.bias[:, None, None]


class FirstAxis(nn.LayerNorm):
    """timm's and transformers': LayerNorm over axis 1."""

    def forward(self, x):
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class GlobalResponse(nn.Module):
    """ConvNeXt V2's, channels last."""

    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1, 1, size))
        self.bias = nn.Parameter(torch.zeros(1, 1, 1, size))

    def forward(self, x):
        size = x.norm(dim=(1, 2), keepdim=True)
        return self.weight * (x * (size / (size.mean(-1, keepdim=True) + 1e-6))) + self.bias + x


NORMS = {
    "LayerNorm": (nn.LayerNorm(N), 3),
    "LayerNorm without γ and β": (nn.LayerNorm(N, elementwise_affine=False), 3),
    "LayerNorm over axis 1": (FirstAxis(N), 1),
    "LayerNorm written out": (Eager(N), 1),
    "RMSNorm": (nn.RMSNorm(N, eps=1e-3), 3),
    "RMSNorm with the ε of its dtype": (nn.RMSNorm(N), 3),
    "RMSNorm written out": (RootMeanSquare(N), 3),
    "RMSNorm with γ one off": (Shifted(N), 3),
    "global response norm": (GlobalResponse(N), 3),
    "GroupNorm in one group": (nn.GroupNorm(1, N), 1),
}


class Around(nn.Module):
    """A norm between two linear maps, on (batch, rows, columns, channels) or channels first."""

    def __init__(self, norm, axis):
        super().__init__()
        self.norm, self.axis = copy.deepcopy(norm), axis
        self.read, self.write = nn.Linear(3, N), nn.Linear(N, 5)

    def forward(self, x):
        y = self.read(x).movedim(-1, self.axis)
        return self.write(self.norm(y).movedim(self.axis, -1))


def around(name, seed=0):
    torch.manual_seed(seed)
    net = Around(*NORMS[name]).double()
    with torch.no_grad():
        for parameter in net.norm.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return net, torch.randn(2, 4, 5, 3, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NORMS)
def test_a_norm_without_its_dead_channels_is_the_same_function(name, seed):
    net, x = around(name, seed)
    graph = channel_graph(net, x)
    (group,) = graph.removable
    assert len(group.units) == N
    count = int(torch.randint(1, N - 1, ()))
    gone = torch.tensor([unit.id for unit in group.units])[torch.randperm(N)[:count]]
    graph.zero_(net, gone.tolist())
    small = compact(net, x, graph=graph)
    assert small.removed == count
    assert small.model.read.out_features == N - count
    # Another size, and numbers so small that ε matters.
    for batch in (x, torch.randn(1, 3, 2, 3).double(), 1e-3 * x):
        torch.testing.assert_close(small.model(batch), net(batch), rtol=1e-12, atol=1e-12)


def test_a_norm_that_counted_only_what_is_left_would_be_another_function():
    net, x = around("LayerNorm")
    graph = channel_graph(net, x)
    graph.zero_(net, [unit.id for unit in graph.removable[0].units[:6]])
    found = compact(net, x, graph=graph).edits
    assert [edit.size for edit in found.norms] == [N]
    wrong = apply_edits(net, Edits(slices=found.slices))
    assert (wrong(x) - net(x)).abs().max() > 1e-2


def test_an_rms_norm_stays_the_module_it_is_with_other_numbers():
    net, x = around("RMSNorm written out")
    graph = channel_graph(net, x)
    graph.zero_(net, [unit.id for unit in graph.removable[0].units[:9]])
    small = compact(net, x, graph=graph).model.norm
    assert type(small) is RootMeanSquare
    assert small.variance_epsilon == pytest.approx(4e-5)
    torch.testing.assert_close(small.weight, 2 * net.norm.weight[9:])


def test_a_channel_that_is_not_zero_where_the_norm_counts_it_stays():
    net, x = around("LayerNorm")
    graph = channel_graph(net, x)
    graph.zero_(net, [unit.id for unit in graph.removable[0].units[:2]])
    with torch.no_grad():
        net.read.bias[0] = 0.5
    small = compact(net, x, graph=graph)
    assert (small.removed, small.constant) == (1, 1)


def test_what_treats_channels_differently_is_no_norm_that_counts_on():
    class Positional(nn.LayerNorm):
        def forward(self, x):
            return super().forward(x) * torch.arange(N)

    class Windowed(nn.LayerNorm):
        def forward(self, x):
            return super().forward(F.avg_pool1d(x, 3, 1, 1))

    class Reversed(nn.LayerNorm):
        def forward(self, x):
            return super().forward(x).flip(-1)

    for norm in (Positional(N), Windowed(N), Reversed(N)):
        net = nn.Sequential(nn.Linear(3, N), norm, nn.Linear(N, 2))
        assert not channel_graph(net, torch.randn(2, 4, 3)).may_go("0.weight").any()


def counting(name="LayerNorm"):
    net, x = around(name)
    graph = channel_graph(net, x)
    graph.zero_(net, [unit.id for unit in graph.removable[0].units[:5]])
    return net, compact(net, x, graph=graph).model, x


def test_a_counting_norm_is_copied_pickled_and_trained():
    _, small, x = counting()
    assert isinstance(small.norm, nn.LayerNorm)
    assert "counted=12" in repr(small.norm)
    buffer = io.BytesIO()
    torch.save(small, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    for other in (copy.deepcopy(small), loaded):
        assert torch.equal(other(x), small(x))
        assert other.norm.state_dict()["weight"].shape == (7,)
    small(x).square().sum().backward()
    assert small.norm._parameters["weight"].grad.shape == (7,)


def test_edits_of_norms_that_do_not_fit_are_refused():
    net, _ = around("LayerNorm")
    with pytest.raises(UnknownNameError, match="no such module"):
        apply_edits(net, Edits(norms=(NormEdit(module="mist", axis=3, size=N),)))
    with pytest.raises(RequestError, match="no norm over 4"):
        apply_edits(net, Edits(norms=(NormEdit(module="norm", axis=3, size=4),)))
    rows = SliceEdit(name="norm.weight", axis=0, size=N, keep=(0, 1))
    edit = NormEdit(module="norm", axis=3, size=N, eps="axis")
    with pytest.raises(RequestError, match="to rescale"):
        apply_edits(net, Edits(slices=(rows,), norms=(edit,)))
