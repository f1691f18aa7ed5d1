"""Small nets whose coupled channels are written out by hand."""

import io

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import nn

from espalier.errors import RequestError, UnknownNameError
from espalier.graph import channel_graph
from espalier.models._cifar_resnet import CifarResNet


class Net(nn.Module):
    """Modules by name, and a forward given as a function of the net and its inputs."""

    def __init__(self, forward, **modules):
        super().__init__()
        for name, module in modules.items():
            if isinstance(module, nn.Parameter):
                self.register_parameter(name, module)
            else:
                setattr(self, name, module)
        self._forward = forward

    def forward(self, *inputs):
        return self._forward(self, *inputs)


def conv(i, o, k=1, **more):
    return nn.Conv2d(i, o, k, bias=False, **more)


def units(graph):
    """The removable units, as sets of ``name[axis]:indices``."""

    def text(piece):
        return f"{piece.name}[{piece.axis}]:{','.join(map(str, piece.indices))}"

    return {
        (
            frozenset(text(s) for s in unit.producers),
            frozenset(text(s) for s in unit.consumers),
        )
        for group in graph.removable
        for unit in group.units
    }


def expect(*rows):
    """Rows of ``"producers -> consumers"``."""
    found = set()
    for row in rows:
        left, _, right = row.partition("->")
        found.add((frozenset(left.split()), frozenset(right.split())))
    return found


def _standardised(weight):
    rows = weight.reshape(1, len(weight), -1)
    return F.batch_norm(rows, None, None, training=True).reshape_as(weight)


IMAGE = torch.zeros(2, 3, 8, 8)

CASES = {
    "plain": (
        Net(lambda n, x: n.b(F.relu(n.a(x))), a=conv(3, 2, 3), b=conv(2, 4, 3)),
        [f"a.weight[0]:{i} -> b.weight[1]:{i}" for i in range(2)],
    ),
    "batch norm": (
        Net(lambda n, x: n.b(n.n(n.a(x))), a=conv(3, 2), n=nn.BatchNorm2d(2), b=conv(2, 4)),
        [
            f"a.weight[0]:{i} n.weight[0]:{i} n.bias[0]:{i} n.running_mean[0]:{i} "
            f"n.running_var[0]:{i} -> b.weight[1]:{i}"
            for i in range(2)
        ],
    ),
    "residual": (
        Net(
            lambda n, x: n.d((y := n.a(x)) + n.c(F.relu(n.b(y)))),
            a=conv(3, 2),
            b=conv(2, 3),
            c=conv(3, 2),
            d=conv(2, 4),
        ),
        [f"a.weight[0]:{i} c.weight[0]:{i} -> b.weight[1]:{i} d.weight[1]:{i}" for i in range(2)]
        + [f"b.weight[0]:{i} -> c.weight[1]:{i}" for i in range(3)],
    ),
    "concat": (
        Net(
            lambda n, x: n.c(torch.cat([n.a(x), n.b(x)], 1)),
            a=conv(3, 2),
            b=conv(3, 2),
            c=conv(4, 4),
        ),
        [f"a.weight[0]:{i} -> c.weight[1]:{i}" for i in range(2)]
        + [f"b.weight[0]:{i} -> c.weight[1]:{i + 2}" for i in range(2)],
    ),
    "concat with the input": (
        Net(lambda n, x: n.c(torch.cat([x, n.a(x)], 1)), a=conv(3, 2), c=conv(5, 4)),
        [f"a.weight[0]:{i} -> c.weight[1]:{i + 3}" for i in range(2)],
    ),
    "depthwise": (
        Net(
            lambda n, x: n.c(n.b(n.a(x))),
            a=conv(3, 2),
            b=conv(2, 2, 3, groups=2),
            c=conv(2, 4),
        ),
        [f"a.weight[0]:{i} b.weight[0]:{i} -> c.weight[1]:{i}" for i in range(2)],
    ),
    "depthwise with a multiplier": (
        Net(
            lambda n, x: n.c(n.b(n.a(x))),
            a=conv(3, 2),
            b=conv(2, 4, 3, groups=2),
            c=conv(4, 4),
        ),
        [
            f"a.weight[0]:{i} b.weight[0]:{2 * i},{2 * i + 1} -> c.weight[1]:{2 * i},{2 * i + 1}"
            for i in range(2)
        ],
    ),
    "many small groups go whole": (
        Net(
            lambda n, x: n.c(n.b(n.a(x))),
            a=conv(3, 8),
            b=conv(8, 8, 3, groups=4),
            c=conv(8, 4),
        ),
        [
            f"a.weight[0]:{2 * i},{2 * i + 1} b.weight[0]:{2 * i},{2 * i + 1} "
            f"-> c.weight[1]:{2 * i},{2 * i + 1}"
            for i in range(4)
        ],
    ),
    "few large groups shrink alike": (
        Net(
            lambda n, x: n.c(n.b(n.a(x))),
            a=conv(3, 6),
            b=conv(6, 6, 3, groups=2),
            c=conv(6, 4),
        ),
        [f"a.weight[0]:{i},{i + 3} -> b.weight[1]:{i}" for i in range(3)]
        + [f"b.weight[0]:{i},{i + 3} -> c.weight[1]:{i},{i + 3}" for i in range(3)],
    ),
    "transposed": (
        Net(
            lambda n, x: n.c(n.b(n.a(x))),
            a=conv(3, 2),
            b=nn.ConvTranspose2d(2, 3, 2, stride=2),
            c=conv(3, 4),
        ),
        [f"a.weight[0]:{i} -> b.weight[0]:{i}" for i in range(2)]
        + [f"b.weight[1]:{i} b.bias[0]:{i} -> c.weight[1]:{i}" for i in range(3)],
    ),
    "flatten to a linear layer": (
        Net(lambda n, x: n.f(F.max_pool2d(n.a(x), 4).flatten(1)), a=conv(3, 2), f=nn.Linear(8, 5)),
        [
            f"a.weight[0]:{i} -> f.weight[1]:{','.join(str(4 * i + k) for k in range(4))}"
            for i in range(2)
        ],
    ),
    "pixel shuffle": (
        Net(lambda n, x: n.b(F.pixel_shuffle(n.a(x), 2)), a=conv(3, 8), b=conv(2, 4)),
        [
            f"a.weight[0]:{','.join(str(4 * i + k) for k in range(4))} -> b.weight[1]:{i}"
            for i in range(2)
        ],
    ),
    "pixel unshuffle": (
        Net(lambda n, x: n.b(F.pixel_unshuffle(n.a(x), 2)), a=conv(3, 2), b=conv(8, 4)),
        [
            f"a.weight[0]:{i} -> b.weight[1]:{','.join(str(4 * i + k) for k in range(4))}"
            for i in range(2)
        ],
    ),
    "channel shuffle by hand": (
        Net(
            lambda n, x: n.b(n.a(x).view(2, 2, 2, 8, 8).transpose(1, 2).reshape(2, 4, 8, 8)),
            a=conv(3, 4),
            b=conv(4, 3),
        ),
        # The view (2, 2) must stay a rectangle, so both groups lose the same position.
        ["a.weight[0]:0,2 -> b.weight[1]:0,1", "a.weight[0]:1,3 -> b.weight[1]:2,3"],
    ),
    "squeeze and excite": (
        Net(
            lambda n, x: n.d((y := n.a(x)) * n.c(F.relu(n.b(y.mean((2, 3), True)))).sigmoid()),
            a=conv(3, 2),
            b=conv(2, 3),
            c=conv(3, 2),
            d=conv(2, 4),
        ),
        [f"a.weight[0]:{i} c.weight[0]:{i} -> b.weight[1]:{i} d.weight[1]:{i}" for i in range(2)]
        + [f"b.weight[0]:{i} -> c.weight[1]:{i}" for i in range(3)],
    ),
    "chunk and gate": (
        Net(
            lambda n, x: n.b((h := n.a(x).chunk(2, 1))[0] * h[1].sigmoid()),
            a=conv(3, 4),
            b=conv(2, 4),
        ),
        [f"a.weight[0]:{i},{i + 2} -> b.weight[1]:{i}" for i in range(2)],
    ),
    "gated linear unit": (
        Net(lambda n, x: n.b(F.glu(n.a(x), 1)), a=conv(3, 4), b=conv(2, 4)),
        [f"a.weight[0]:{i},{i + 2} -> b.weight[1]:{i}" for i in range(2)],
    ),
    "halves by slices": (
        Net(lambda n, x: n.b((y := n.a(x))[:, :2] + y[:, 2:]), a=conv(3, 4), b=conv(2, 4)),
        [f"a.weight[0]:{i},{i + 2} -> b.weight[1]:{i}" for i in range(2)],
    ),
    "unequal parts: one index alone is told by its place": (
        Net(lambda n, x: n.b(n.a(x).split([1, 3], 1)[1]), a=conv(3, 4), b=conv(3, 4)),
        [f"a.weight[0]:{i + 1} -> b.weight[1]:{i}" for i in range(3)],
    ),
    "unequal parts, two of them equal": (
        Net(
            lambda n, x: n.b((y := n.a(x).split([3, 5, 3], 1))[0] + y[2]) + n.c(y[1]),
            a=conv(3, 11),
            b=conv(3, 4),
            c=conv(5, 4),
        ),
        [
            *(f"a.weight[0]:{i},{i + 8} -> b.weight[1]:{i}" for i in range(3)),
            *(f"a.weight[0]:{i + 3} -> c.weight[1]:{i}" for i in range(5)),
        ],
    ),
    "slices at unequal borders, from either end": (
        Net(
            lambda n, x: n.b((y := n.a(x))[:, :3]) + n.c(y[:, 3:-4]) + n.d(y.narrow(1, 8, 4)),
            a=conv(3, 12),
            b=conv(3, 4),
            c=conv(5, 4),
            d=conv(4, 4),
        ),
        [
            *(f"a.weight[0]:{i} -> b.weight[1]:{i}" for i in range(3)),
            *(f"a.weight[0]:{i + 3} -> c.weight[1]:{i}" for i in range(5)),
            *(f"a.weight[0]:{i + 8} -> d.weight[1]:{i}" for i in range(4)),
        ],
    ),
    "slices that overlap": (
        Net(
            lambda n, x: n.b((y := n.a(x))[:, :7]) + n.c(y[:, 3:]),
            a=conv(3, 12),
            b=conv(7, 4),
            c=conv(9, 4),
        ),
        # The borders 0, 3, 7, 12 make pieces of 3, 4 and 5.
        [
            *(f"a.weight[0]:{i} -> b.weight[1]:{i}" for i in range(3)),
            *(f"a.weight[0]:{i} -> b.weight[1]:{i} c.weight[1]:{i - 3}" for i in range(3, 7)),
            *(f"a.weight[0]:{i} -> c.weight[1]:{i - 3}" for i in range(7, 12)),
        ],
    ),
    "every second channel": (
        Net(lambda n, x: n.b((y := n.a(x))[:, ::2] + y[:, 1::2]), a=conv(3, 6), b=conv(3, 4)),
        [f"a.weight[0]:{2 * i},{2 * i + 1} -> b.weight[1]:{i}" for i in range(3)],
    ),
    "repeated side by side": (
        Net(lambda n, x: n.b(n.a(x).repeat_interleave(2, 1)), a=conv(3, 3), b=conv(6, 4)),
        [f"a.weight[0]:{i} -> b.weight[1]:{2 * i},{2 * i + 1}" for i in range(3)],
    ),
    "a state that begins with zeros": (
        Net(
            lambda n, x: n.b(torch.zeros(2, 3) * n.c + n.a(x.mean((2, 3)))),
            a=nn.Linear(3, 3, bias=False),
            b=nn.Linear(3, 4, bias=False),
            c=nn.Parameter(torch.ones(3)),
        ),
        [f"a.weight[0]:{i} c[0]:{i} -> b.weight[1]:{i}" for i in range(3)],
    ),
    "a pool over channels, one at a time": (
        Net(
            lambda n, x: n.b(F.avg_pool2d(n.a(x.flatten(2).mT)[:, None], (2, 1), (2, 1))[:, 0]),
            a=nn.Linear(3, 3, bias=False),
            b=nn.Linear(3, 4, bias=False),
        ),
        [f"a.weight[0]:{i} -> b.weight[1]:{i}" for i in range(3)],
    ),
    "group norm": (
        Net(lambda n, x: n.b(n.n(n.a(x))), a=conv(3, 4), n=nn.GroupNorm(2, 4), b=conv(4, 4)),
        [
            f"a.weight[0]:{j} n.weight[0]:{j} n.bias[0]:{j} -> b.weight[1]:{j}"
            for j in ("0,1", "2,3")
        ],
    ),
    "instance norm": (
        Net(
            lambda n, x: n.b(n.n(n.a(x))),
            a=conv(3, 2),
            n=nn.InstanceNorm2d(2, affine=True),
            b=conv(2, 4),
        ),
        [f"a.weight[0]:{i} n.weight[0]:{i} n.bias[0]:{i} -> b.weight[1]:{i}" for i in range(2)],
    ),
    "group norm over positions that a layer made is frozen": (
        Net(
            lambda n, x: n.b(n.n(n.a(x.flatten(2)))),
            a=nn.Linear(64, 2),
            n=nn.GroupNorm(3, 3),
            b=nn.Linear(2, 4),
        ),
        [],
    ),
    "filters standardised one by one": (
        # A filter may go; an input may not, for every filter's mean counts it.
        Net(
            lambda n, x: n.c(F.conv2d(n.a(x), _standardised(n.b.weight))),
            a=conv(3, 2),
            b=conv(2, 3),
            c=conv(3, 4),
        ),
        [f"b.weight[0]:{i} -> c.weight[1]:{i}" for i in range(3)],
    ),
    "layer norm": (
        Net(
            lambda n, x: n.b(n.n(n.a(x.mean((2, 3))))),
            a=nn.Linear(3, 4),
            n=nn.LayerNorm(4),
            b=nn.Linear(4, 4),
        ),
        [
            f"a.weight[0]:{i} a.bias[0]:{i} n.weight[0]:{i} n.bias[0]:{i} -> b.weight[1]:{i}"
            for i in range(4)
        ],
    ),
    "layer norm outside a module is frozen": (
        Net(
            lambda n, x: n.b(F.layer_norm(n.a(x.mean((2, 3))), (4,))),
            a=nn.Linear(3, 4),
            b=nn.Linear(4, 4),
        ),
        [],
    ),
    "layer norm over two axes is frozen": (
        Net(
            lambda n, x: n.b(n.n(n.a(x.flatten(2).mT))),
            a=nn.Linear(3, 4),
            n=nn.LayerNorm((64, 4)),
            b=nn.Linear(4, 4),
        ),
        [],
    ),
    "rms norm": (
        Net(
            lambda n, x: n.b(n.n(n.a(x.mean((2, 3))))),
            a=nn.Linear(3, 4, bias=False),
            n=nn.RMSNorm(4),
            b=nn.Linear(4, 4),
        ),
        [f"a.weight[0]:{i} n.weight[0]:{i} -> b.weight[1]:{i}" for i in range(4)],
    ),
    "group norm in one group": (
        Net(lambda n, x: n.b(n.n(n.a(x))), a=conv(3, 4), n=nn.GroupNorm(1, 4), b=conv(4, 4)),
        [f"a.weight[0]:{i} n.weight[0]:{i} n.bias[0]:{i} -> b.weight[1]:{i}" for i in range(4)],
    ),
    "windows as columns": (
        Net(
            lambda n, x: F.unfold(n.a(x), 3).mT @ n.b,
            a=conv(3, 2),
            b=nn.Parameter(torch.rand(18, 4)),
        ),
        [f"a.weight[0]:{i} -> b[0]:{','.join(str(9 * i + j) for j in range(9))}" for i in range(2)],
    ),
    "columns as windows": (
        Net(
            lambda n, x: n.b(F.fold(n.a(x).flatten(2), 16, 2, stride=2)),
            a=conv(3, 8),
            b=conv(2, 4),
        ),
        [
            f"a.weight[0]:{','.join(str(4 * i + j) for j in range(4))} -> b.weight[1]:{i}"
            for i in range(2)
        ],
    ),
    "weight norm": (
        Net(
            lambda n, x: n.b(n.a(x)),
            a=nn.utils.parametrizations.weight_norm(conv(3, 2)),
            b=conv(2, 4),
        ),
        [f"a.parametrizations.weight.original0[0]:{i} -> b.weight[1]:{i}" for i in range(2)],
    ),
    "the dtype of another tensor": (
        Net(lambda n, x: n.b(n.a(x).type_as(n.c(x))), a=conv(3, 2), b=conv(2, 4), c=conv(3, 2)),
        [f"a.weight[0]:{i} -> b.weight[1]:{i}" for i in range(2)]
        + [f"c.weight[0]:{i} ->" for i in range(2)],
    ),
    "a product by another name": (
        Net(
            lambda n, x: n.b(torch.multiply(n.a(x), n.c(x))),
            a=conv(3, 2),
            b=conv(2, 4),
            c=conv(3, 2),
        ),
        [f"a.weight[0]:{i} c.weight[0]:{i} -> b.weight[1]:{i}" for i in range(2)],
    ),
    "experts": (
        Net(
            lambda n, x: F.grouped_mm(
                F.grouped_mm(x[:, 0].flatten(0, 1).bfloat16(), n.a, offs=n.ends).relu(),
                n.b,
                offs=n.ends,
            ),
            a=nn.Parameter(torch.rand(2, 8, 8).bfloat16()),
            b=nn.Parameter(torch.rand(2, 8, 8).bfloat16()),
            ends=nn.Parameter(torch.tensor([6, 16], dtype=torch.int32), requires_grad=False),
        ),
        [f"a[2]:{i} -> b[1]:{i}" for i in range(8)],
    ),
    "softmax over channels is frozen": (
        Net(lambda n, x: n.b(n.a(x).softmax(1)), a=conv(3, 2), b=conv(2, 4)),
        [],
    ),
    "sum over channels": (
        Net(lambda n, x: n.a(x).sum(1), a=conv(3, 2)),
        ["a.weight[0]:0 ->", "a.weight[0]:1 ->"],
    ),
    "mean over channels is frozen": (Net(lambda n, x: n.a(x).mean(1), a=conv(3, 2)), []),
    "functional and matmul": (
        Net(
            lambda n, x: (x.mean((2, 3)) @ n.a).relu() @ n.b,
            a=nn.Parameter(torch.randn(3, 2)),
            b=nn.Parameter(torch.randn(2, 4)),
        ),
        [f"a[1]:{i} -> b[0]:{i}" for i in range(2)],
    ),
    "einsum": (
        Net(
            lambda n, x: torch.einsum("bo,po->bp", torch.einsum("bchw,oc->bo", x, n.a), n.b),
            a=nn.Parameter(torch.randn(2, 3)),
            b=nn.Parameter(torch.randn(4, 2)),
        ),
        [f"a[0]:{i} -> b[1]:{i}" for i in range(2)],
    ),
    "layer scale": (
        Net(
            lambda n, x: n.b(n.a(x) * n.s),
            a=conv(3, 2),
            s=nn.Parameter(torch.ones(2, 1, 1)),
            b=conv(2, 4),
        ),
        [f"a.weight[0]:{i} s[0]:{i} -> b.weight[1]:{i}" for i in range(2)],
    ),
    "prelu": (
        Net(lambda n, x: n.b(n.p(n.a(x))), a=conv(3, 2), p=nn.PReLU(2), b=conv(2, 4)),
        [f"a.weight[0]:{i} p.weight[0]:{i} -> b.weight[1]:{i}" for i in range(2)],
    ),
    "interpolation and pooling": (
        Net(
            lambda n, x: n.b(F.interpolate(F.avg_pool2d(n.a(x), 2), scale_factor=2.0)),
            a=conv(3, 2),
            b=conv(2, 4),
        ),
        [f"a.weight[0]:{i} -> b.weight[1]:{i}" for i in range(2)],
    ),
    "zero padding of channels": (
        Net(lambda n, x: n.b(F.pad(n.a(x), (0, 0, 0, 0, 1, 2))), a=conv(3, 2), b=conv(5, 4)),
        [f"a.weight[0]:{i} -> b.weight[1]:{i + 1}" for i in range(2)]
        + [f"-> b.weight[1]:{i}" for i in (0, 3, 4)],
    ),
    "zero padding met by an addition": (
        Net(
            lambda n, x: n.c(F.pad(n.a(x), (1, 1, 0, 0, 1, 1), value=2.0) + n.b(x)),
            a=conv(3, 2),
            b=conv(3, 4, padding=(0, 1)),
            c=conv(4, 4),
        ),
        [f"a.weight[0]:{i} b.weight[0]:{i + 1} -> c.weight[1]:{i + 1}" for i in range(2)]
        + [f"b.weight[0]:{i} -> c.weight[1]:{i}" for i in (0, 3)],
    ),
    "a cropped channel axis is frozen": (
        Net(lambda n, x: n.b(F.pad(n.a(x), (0, 0, 0, 0, -1, 2))), a=conv(3, 2), b=conv(3, 4)),
        [],
    ),
    "one filter bank used twice": (
        Net(lambda n, x: n.c(n.a(x) + n.a(x.flip(-1))), a=conv(3, 2), c=conv(2, 4)),
        [f"a.weight[0]:{i} -> c.weight[1]:{i}" for i in range(2)],
    ),
    "the output is frozen": (Net(lambda n, x: (n.a(x), n.b(x)), a=conv(3, 2), b=conv(3, 2)), []),
    "flip and repeat of channels": (
        Net(lambda n, x: n.b(n.a(x).flip(1).repeat(1, 2, 1, 1)), a=conv(3, 2), b=conv(4, 4)),
        ["a.weight[0]:0 -> b.weight[1]:1,3", "a.weight[0]:1 -> b.weight[1]:0,2"],
    ),
    "stacked branches": (
        Net(
            lambda n, x: n.c(torch.stack([n.a(x), n.b(x)]).sum(0)),
            a=conv(3, 2),
            b=conv(3, 2),
            c=conv(2, 4),
        ),
        [f"a.weight[0]:{i} b.weight[0]:{i} -> c.weight[1]:{i}" for i in range(2)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_units_are_those_written_out_by_hand(name):
    net, rows = CASES[name]
    graph = channel_graph(net, IMAGE)
    assert units(graph) == expect(*rows)
    assert not graph.unknown


@pytest.mark.parametrize(("kind", "shape"), [(nn.Conv1d, (2, 3, 8)), (nn.Conv3d, (2, 3, 4, 4, 4))])
def test_convolutions_of_one_and_three_dimensions(kind, shape):
    net = nn.Sequential(kind(3, 2, 3, bias=False), nn.ReLU(), kind(2, 4, 1))
    rows = [f"0.weight[0]:{i} -> 2.weight[1]:{i}" for i in range(2)]
    assert units(channel_graph(net, torch.zeros(shape))) == expect(*rows)


def test_option_a_shortcuts_tie_a_channel_to_the_one_it_becomes():
    graph = channel_graph(CifarResNet(1), torch.zeros(2, 3, 32, 32))
    first, second, third = (graph.couplings(f"layer{i}.0.conv2.weight") for i in (1, 2, 3))
    assert torch.equal(first, graph.couplings("conv1.weight"))
    assert torch.equal(second[8:24], first)
    assert torch.equal(third[16:48], second)
    assert torch.equal(third, graph.couplings("linear.weight", 1))
    assert len(set(third.tolist())) == 64  # 16 over three stages, 16 over two, 32 over one
    assert graph.may_go("layer3.0.conv2.weight").all()
    assert not graph.unknown


def test_a_buffer_that_is_not_saved_goes_with_its_channel():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = conv(3, 2), conv(2, 4)
            self.register_buffer("scale", torch.ones(2, 1, 1), persistent=False)

        def forward(self, x):
            return self.b(self.a(x) * self.scale)

    graph = channel_graph(Scaled(), IMAGE)
    rows = [f"a.weight[0]:{i} scale[0]:{i} -> b.weight[1]:{i}" for i in range(2)]
    assert units(graph) == expect(*rows)


def test_positions_of_kernels_and_words_of_a_table_are_no_units():
    net = Net(lambda n, x: n.b(n.a(x)), a=conv(3, 2, 3), b=conv(2, 4, 5))
    assert [len(group.units) for group in channel_graph(net, IMAGE).groups] == [2, 3, 4]
    table = nn.Sequential(nn.Embedding(7, 2), nn.Linear(2, 3))
    graph = channel_graph(table, torch.zeros(2, 4, dtype=torch.int64))
    assert [len(group.units) for group in graph.groups] == [2, 3]


def test_a_frozen_class_is_given_one_reason_by_one_operation():
    graph = channel_graph(CASES["mean over channels is frozen"][0], IMAGE)
    frozen = next(g.frozen for g in graph.groups if ("a.weight", 0) in g.producers)
    assert len(frozen) == 1
    assert "statistics run over the channel" in frozen[0]


@pytest.mark.parametrize("zeros", [False, True])
def test_heads_of_pytorchs_own_attention_go_unless_it_has_keys_of_its_own(zeros):
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True, add_zero_attn=zeros)

        def forward(self, x):
            x = self.a(x)
            return self.b(self.attention(x, x, x, need_weights=False)[0])

    graph = channel_graph(Encoder(), torch.zeros(2, 5, 3))
    assert graph.may_go("attention.in_proj_weight").all() != zeros
    assert graph.may_go("attention.in_proj_weight", 1).all() != zeros
    assert graph.may_go("attention.out_proj.weight").all()
    reasons = {r for g in graph.groups for r in g.frozen}
    assert any("of its own among its keys" in r for r in reasons) == zeros
    assert not graph.unknown


class Attention(nn.Module):
    def __init__(self, width=4, heads=2, fused=True):
        super().__init__()
        self.num_heads, self.head_dim, self.fused = heads, width // heads, fused
        self.qkv = nn.Linear(3, 3 * width, bias=False)
        self.proj = nn.Linear(width, 5, bias=False)

    def forward(self, x):
        b, n, _ = x.shape
        qkv = self.qkv(x).view(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            y = (q @ k.transpose(-2, -1) * 0.5).softmax(-1) @ v
        return self.proj(y.transpose(1, 2).flatten(2))


class Grouped(nn.Module):
    """Four heads of queries, two of keys and values."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(3, n, bias=False) for n in (8, 4, 4))
        self.proj = nn.Linear(8, 5, bias=False)

    def forward(self, x):
        q, k, v = (
            part(x).unflatten(-1, (-1, 2)).transpose(1, 2) for part in (self.q, self.k, self.v)
        )
        y = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        return self.proj(y.transpose(1, 2).flatten(2))


def test_grouped_queries_go_with_the_head_of_keys_and_values_they_read():
    graph = channel_graph(Grouped(), torch.zeros(2, 6, 3))
    assert units(graph) == expect(
        "q.weight[0]:0,1,2,3 k.weight[0]:0,1 v.weight[0]:0,1 -> proj.weight[1]:0,1,2,3",
        "q.weight[0]:4,5,6,7 k.weight[0]:2,3 v.weight[0]:2,3 -> proj.weight[1]:4,5,6,7",
    )


@pytest.mark.parametrize("fused", [True, False])
def test_a_head_of_query_key_and_value_is_one_unit(fused):
    graph = channel_graph(Attention(fused=fused), torch.zeros(2, 6, 3))
    assert units(graph) == expect(
        "qkv.weight[0]:0,1,4,5,8,9 -> proj.weight[1]:0,1",
        "qkv.weight[0]:2,3,6,7,10,11 -> proj.weight[1]:2,3",
    )


def test_tied_embedding_is_frozen_by_the_output_and_its_width_by_nothing():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(7, 2)
            self.head = nn.Linear(2, 7, bias=False)
            self.head.weight = self.table.weight

        def forward(self, tokens):
            return self.head(self.table(tokens))

    graph = channel_graph(Tied(), torch.zeros(2, 4, dtype=torch.int64))
    assert len(graph.removable) == 1
    assert [u.producers[0].indices for u in graph.removable[0].units] == [(0,), (1,)]
    names = {name for name, _ in graph.classes}
    for name in names:
        assert graph.may_go(name, 0).tolist() == [False] * 7
        assert graph.may_go(name, 1).tolist() == [True] * 2
    assert not any("not used" in reason for group in graph.groups for reason in group.frozen)


def test_an_operation_not_understood_freezes_what_it_touches_and_is_named():
    class Sorted(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x):
            return self.c(self.b(self.a(x).sort(-1).values).relu())

    graph = channel_graph(Sorted(), torch.zeros(2, 6, 3))
    assert list(graph.unknown) == ["aten.sort"]
    assert not graph.may_go("a.weight", 0).any()
    assert not graph.may_go("b.weight", 1).any()
    assert graph.may_go("b.weight", 0).all()
    reasons = {reason for group in graph.groups for reason in group.frozen}
    assert "not understood (aten.sort in the model)" in reasons


class Recurrent(nn.Module):
    def __init__(self, layer, given=False):
        super().__init__()
        self.a, self.r, self.b = nn.Linear(3, 2), layer, nn.Linear(2, 4)
        self.given = given

    def forward(self, x):
        state = x.new_ones(1, len(x), 2) if self.given else None
        return self.b(self.r(self.a(x), state)[0])


def test_a_hidden_unit_is_its_row_in_every_gate_and_what_reads_it():
    graph = channel_graph(Recurrent(nn.GRU(2, 2, batch_first=True)), torch.zeros(2, 6, 3))
    rows = [f"a.weight[0]:{i} a.bias[0]:{i} -> r.weight_ih_l0[1]:{i}" for i in range(2)]
    gates = [f"{i},{i + 2},{i + 4}" for i in range(2)]
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    for i, gate in enumerate(gates):
        made = " ".join(f"r.{name}[0]:{gate}" for name in names)
        rows.append(f"{made} -> r.weight_hh_l0[1]:{i} b.weight[1]:{i}")
    assert units(graph) == expect(*rows)
    assert not graph.unknown


def test_a_hidden_unit_that_starts_from_a_given_state_stays():
    net = Recurrent(nn.GRU(2, 2, batch_first=True), given=True)
    graph = channel_graph(net, torch.zeros(2, 6, 3))
    assert not graph.may_go("r.weight_hh_l0").any()
    assert graph.may_go("a.weight").all()


def test_couplings_number_the_filters_that_share_a_choice():
    net, _ = CASES["residual"]
    graph = channel_graph(net, IMAGE)
    assert torch.equal(graph.couplings("a.weight"), graph.couplings("c.weight"))
    assert torch.equal(graph.couplings("a.weight"), graph.couplings("d.weight", 1))
    assert len(set(graph.couplings("b.weight").tolist())) == 3
    with pytest.raises(UnknownNameError, match=r"did you mean 'a.weight'"):
        graph.couplings("a.weigth")


def test_several_inputs_by_position_and_by_name():
    net = Net(lambda n, x, y: n.c(n.a(x) + n.b(y)), a=conv(3, 2), b=conv(3, 2), c=conv(2, 4))
    graph = channel_graph(net, (IMAGE, IMAGE))
    rows = [f"a.weight[0]:{i} b.weight[0]:{i} -> c.weight[1]:{i}" for i in range(2)]
    assert units(graph) == expect(*rows)


def test_the_model_is_left_as_it_was():
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1))
    net[1].eval()
    before = [module.training for module in net.modules()]
    channel_graph(net, IMAGE)
    assert [module.training for module in net.modules()] == before


def test_what_cannot_be_exported_is_refused_with_the_cause():
    class Wild(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(RequestError, match="Wild cannot be exported"):
        channel_graph(Wild(), IMAGE)
    whole = nn.Sequential()
    whole.add_module("backbone", nn.Conv2d(3, 4, 1))
    whole.add_module("boxes", Wild())
    with pytest.raises(RequestError, match=r"its part without that \(model\.backbone\)"):
        channel_graph(whole, IMAGE)


def test_the_table_names_groups_and_reasons():
    out = io.StringIO()
    graph = channel_graph(CASES["layer norm outside a module is frozen"][0], IMAGE)
    Console(width=200, file=out).print(graph.table())
    text = out.getvalue()
    assert "a.weight[0]" in text
    assert "statistics run over the channel" in text
