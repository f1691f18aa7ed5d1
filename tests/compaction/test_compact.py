"""Compact models compute what the masked ones do, and are physically smaller."""

import random

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from espalier.compaction import Edits, SliceEdit, apply_edits, compact, compare
from espalier.errors import RequestError, RunError, UnknownNameError
from espalier.graph import channel_graph
from espalier.models._cifar_resnet import CifarResNet


class Block(nn.Module):
    """Residual, depthwise, grouped, gate, concat and flatten in one small net."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.wide = nn.Conv2d(8, 12, 1)
        self.deep = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.norm = nn.BatchNorm2d(12)
        self.thin = nn.Conv2d(12, 8, 1, bias=False)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.down = nn.Conv2d(6, 6, 2, stride=2)
        self.head = nn.Linear(14 * 4, 10)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.thin(F.relu6(self.norm(self.deep(F.silu(self.wide(x))))))
        gate = self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))).sigmoid()
        x = F.relu(self.grouped(x * gate))
        y = self.down(F.gelu(self.up(x)))
        x = F.adaptive_avg_pool2d(torch.cat([x, y], 1), 2)
        return self.head(x.flatten(1)), y.sum(1)


def lively(net):
    """Statistics and affine parameters as after training, so that nothing is zero by chance."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.5)
            nn.init.normal_(module.running_mean, 0, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net.eval()


@pytest.fixture(scope="module")
def traced():
    torch.manual_seed(0)
    net = lively(Block())
    return net, channel_graph(net, torch.randn(2, 3, 8, 8))


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 10**6), consumers=st.booleans(), multiple=st.sampled_from([1, 2, 4]))
def test_random_removable_units_zeroed_can_all_go(traced, seed, consumers, multiple):
    net, graph = traced
    net = lively(Block().requires_grad_(False))
    net.load_state_dict(traced[0].state_dict())
    rng = random.Random(seed)
    ids = [unit.id for group in graph.removable for unit in group.units]
    gone = rng.sample(ids, rng.randrange(len(ids)))
    graph.zero_(net, gone, consumers=consumers)
    small = compact(net, torch.randn(2, 3, 8, 8), graph=graph, multiple=multiple)
    assert small.proof.holds
    assert small.proof.difference < 1e-4
    assert not any("by itself" in why for why in small.kept_back)
    for name, module in small.model.named_modules():
        if isinstance(module, nn.Conv2d):
            shape = (module.out_channels, module.in_channels // module.groups)
            assert tuple(module.weight.shape[:2]) == shape, name
    if multiple == 1 and gone:
        full = {u.id for g in graph.removable for u in g.units if len(g.units) > 1}
        assert small.removed >= len(full & set(gone)) - len(graph.removable)


def test_a_known_removal_gives_the_known_shapes():
    torch.manual_seed(0)
    net = lively(
        nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5)
        )
    )
    with torch.no_grad():
        net[0].weight[[0, 2]] = 0
        net[0].bias[[0, 2]] = 0
        net[1].weight[[0, 2]] = 0
        net[1].bias[[0, 2]] = 0
    small = compact(net, torch.randn(2, 3, 4, 4))
    assert small.model[0].weight.shape == (2, 3, 3, 3)
    assert (small.model[0].out_channels, small.model[1].num_features) == (2, 2)
    assert small.model[4].in_features == 8
    assert torch.equal(small.model[4].weight, net[4].weight[:, [4, 5, 6, 7, 12, 13, 14, 15]])
    assert net[0].out_channels == 4  # the original is as it was


def test_a_dead_path_is_removed_to_its_source():
    net = nn.Sequential(*[nn.Linear(4, 4) for _ in range(4)])
    with torch.no_grad():
        net[3].weight[:, 1:] = 0  # only one input of the last layer is read
    small = compact(net, torch.randn(2, 4))
    assert small.model[2].out_features == 1
    with torch.no_grad():
        net[2].weight[0, 2:] = 0  # whose row reads two
    assert compact(net, torch.randn(2, 4)).model[1].out_features == 2


def constant_net(padding):
    torch.manual_seed(1)
    net = lively(
        nn.Sequential(
            nn.Conv2d(3, 4, 1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, padding=padding, bias=False),
            nn.BatchNorm2d(4),
        )
    )
    with torch.no_grad():
        net[0].weight[1], net[0].bias[1] = 0, 0  # behind BatchNorm it is still a constant
        net[1].bias[1], net[1].weight[1], net[1].running_mean[1] = 1.0, 0.5, -0.5
    return net


def test_a_constant_behind_batch_norm_is_folded_where_that_is_exact():
    small = compact(constant_net(0), torch.randn(2, 3, 6, 6))
    assert small.model[0].out_channels == 3
    assert small.constant == 0
    assert small.proof.difference < 1e-5


def test_a_constant_under_zero_padding_stays_or_is_zeroed_with_its_cost():
    net = constant_net(1)
    small = compact(net, torch.randn(2, 3, 6, 6))
    assert (small.removed, small.constant, small.change) == (0, 1, None)
    forced = compact(net, torch.randn(2, 3, 6, 6), zero_constants=True)
    assert forced.model[0].out_channels == 3
    assert forced.proof.holds
    assert forced.change is not None
    assert forced.change.difference > 1e-2


@pytest.mark.parametrize("blocks", [3, 5, 9])  # ResNet-20, 32, 56
def test_a_cifar_resnet_loses_random_halves_of_all_its_units(blocks):
    torch.manual_seed(blocks)
    net = lively(CifarResNet(blocks))
    x = torch.randn(2, 3, 32, 32)
    graph = channel_graph(net, x)
    gone = [
        unit
        for group in graph.removable
        for unit in random.Random(blocks).sample([u.id for u in group.units], len(group.units) // 2)
    ]
    graph.zero_(net, gone, consumers=False)
    small = compact(net, x, graph=graph)
    assert (small.removed, small.kept_back) == (len(gone), {})
    assert small.proof.difference < 1e-4


def test_the_amounts_padded_shrink_each_by_its_own_number():
    torch.manual_seed(0)
    net = lively(CifarResNet(1))
    x = torch.randn(2, 3, 32, 32)
    graph = channel_graph(net, x)
    # Stage 2 is 8 padded, 16 of stage 1, 8 padded: three of the first go, two of the last, and
    # one of those between, which goes in stage 1 too.
    gone = graph.couplings("layer2.0.conv2.weight")[[0, 1, 7, 10, 24, 31]]
    graph.zero_(net, gone.tolist())
    small = compact(net, x, graph=graph)
    block = small.model.layer2[0]
    assert (block.before, block.after, block.conv2.out_channels) == (5, 6, 26)
    assert (small.model.layer1[0].conv2.out_channels, small.removed) == (15, 6)
    # Stage 3 pads 16 on each side of what is left of stage 2: there nothing has changed.
    assert (small.model.layer3[0].before, small.model.layer3[0].conv2.out_channels) == (16, 58)


class Padded(nn.Module):
    """Channels of a constant, which the next layer reads; the amounts are attributes or literals."""

    def __init__(self, literal):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(9, 2, 1)
        self.literal, self.front, self.back = literal, 2, 3

    def forward(self, x):
        front, back = (2, 3) if self.literal else (self.front, self.back)
        return self.b(F.pad(self.a(x), (0, 0, 0, 0, front, back), value=1.5))


def test_a_padded_constant_is_folded_into_what_reads_it():
    torch.manual_seed(0)
    net = Padded(literal=False)
    small = compact(net, torch.randn(2, 3, 4, 4))
    assert (small.model.front, small.model.back, small.model.b.in_channels) == (0, 0, 4)
    with torch.no_grad():
        shift = 1.5 * net.b.weight[:, [0, 1, 6, 7, 8], 0, 0].sum(1)
    assert torch.allclose(small.model.b.bias, net.b.bias + shift)


def test_amounts_padded_as_literals_keep_their_channels_and_no_others():
    net = Padded(literal=True)
    with torch.no_grad():
        net.b.weight[:, 3] = 0
    small = compact(net, torch.randn(2, 3, 4, 4))
    assert (small.model.a.out_channels, small.model.b.in_channels) == (3, 8)
    assert list(small.kept_back.values()) == [5]


class Heads(nn.Module):
    """Attention whose number of heads is an attribute, and whose width is what it is given."""

    def __init__(self, head_dim=3):
        super().__init__()
        self.num_heads, self.head_dim = 4, head_dim
        self.qkv, self.proj = nn.Linear(6, 12 * head_dim), nn.Linear(4 * head_dim, 6)

    def forward(self, x):
        b, n, _ = x.shape
        qkv = self.qkv(x).view(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        return self.proj(y.transpose(1, 2).flatten(2))


def test_a_head_goes_and_the_attribute_follows():
    net = Heads()
    with torch.no_grad():
        net.proj.weight[:, 3:6] = 0
    small = compact(net, torch.randn(2, 5, 6))
    assert small.model.num_heads == 3
    assert small.model.qkv.weight.shape == (27, 6)
    edit = small.edits.attributes[0]
    assert (edit.name, edit.before, edit.after) == ("num_heads", 4, 3)


def test_as_many_heads_as_channels_a_head_are_told_apart():
    net = Heads(head_dim=4)
    with torch.no_grad():
        net.proj.weight[:, 4:8] = 0
    small = compact(net, torch.randn(2, 5, 6))
    assert (small.model.num_heads, small.model.head_dim, small.kept_back) == (3, 4, {})


class Width(nn.Module):
    """A forward that says ``self.width``, and a buffer of that width that is not saved."""

    def __init__(self):
        super().__init__()
        self.width = 6
        self.a, self.b, self.c = nn.Linear(3, 5), nn.Linear(5, 6), nn.Linear(6, 2)
        self.register_buffer("scale", torch.rand(6), persistent=False)

    def forward(self, x):
        return self.c((self.b(self.a(x).relu()) * self.scale).view(-1, self.width))


def test_an_attribute_and_a_buffer_that_is_not_saved_follow():
    net = Width()
    with torch.no_grad():
        net.c.weight[:, 1:3], net.b.weight[:, 0] = 0, 0
    small = compact(net, torch.randn(4, 3))
    assert (small.model.width, small.model.a.out_features, small.kept_back) == (4, 4, {})
    assert torch.equal(small.model.scale, net.scale[[0, 3, 4, 5]])


def test_a_layer_that_is_wholly_dead_keeps_one_channel_and_says_so():
    torch.manual_seed(0)
    net = lively(CifarResNet(1))
    with torch.no_grad():
        for module in (net.layer1[0].conv1, net.layer1[0].bn1):
            module.weight.zero_()
        net.layer1[0].bn1.bias.zero_()
    small = compact(net, torch.randn(2, 3, 32, 32))
    assert (small.model.layer1[0].conv1.out_channels, small.removed) == (1, 15)
    assert small.kept_back == {"layer1.0.conv1.weight keeps a width of at least 1": 1}


def test_zeros_in_what_is_frozen_are_reported_with_the_reason():
    net = nn.Sequential(nn.Linear(3, 4), nn.Softmax(-1), nn.Linear(4, 2))
    with torch.no_grad():
        net[0].weight[1:3], net[2].weight[1] = 0, 0
    small = compact(net, torch.randn(2, 3))
    assert small.removed == 0
    (mixed, two), (output, one) = sorted(small.kept_back.items())
    assert ("softmax" in mixed, two) == (True, 2)
    assert (output, one) == ("the model's output", 1)


class Recurrent(nn.Module):
    """A recurrent layer between two linear ones, read at every time or in its last state."""

    def __init__(self, layer, ways):
        super().__init__()
        self.a, self.r, self.b = nn.Linear(3, 4), layer, nn.Linear(5 * ways, 6)
        self.c, self.d = nn.Linear(6, 2), nn.Linear(5, 2)

    def forward(self, x):
        every, last = self.r(self.a(x))
        last = last[0] if isinstance(last, tuple) else last
        return self.c(self.b(every).relu()), self.d(last[-1])


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
@pytest.mark.parametrize("more", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}])
def test_recurrent_layers_lose_inputs_and_hidden_units(kind, more):
    torch.manual_seed(0)
    net = Recurrent(kind(4, 5, batch_first=True, **more), 2 if more.get("bidirectional") else 1)
    graph = channel_graph(net, torch.randn(2, 6, 3))
    inputs, hidden = graph.couplings("a.weight")[:3], graph.couplings("r.weight_hh_l0", 1)[1:3]
    graph.zero_(net, [*inputs.tolist(), *hidden.tolist()], consumers=False)
    small = compact(net, torch.randn(2, 6, 3), graph=graph)
    assert (small.model.r.input_size, small.model.r.hidden_size, small.kept_back) == (1, 3, {})
    assert small.proof.difference < 1e-5


def test_a_hidden_unit_read_by_itself_alone_goes():
    net = Recurrent(nn.GRU(4, 5, batch_first=True), 1)
    with torch.no_grad():
        net.b.weight[:, 2], net.d.weight[:, 2] = 0, 0
        net.r.weight_hh_l0[[0, 1, 3, 4, 5, 6, 8, 9, 10, 11, 13, 14], 2] = 0
    assert compact(net, torch.randn(2, 6, 3)).model.r.hidden_size == 4


def eights(x):
    return x.reshape(-1, 8)


class Literal(nn.Module):
    """A forward that calls a function which says 8 and means it."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.c(eights(self.b(self.a(x).relu())))


def test_a_literal_size_keeps_its_channels_and_says_so():
    net = Literal()
    with torch.no_grad():
        net.c.weight[:, :4] = 0
        net.b.weight[:, 6:] = 0
    small = compact(net, torch.randn(4, 3))
    assert small.model.b.out_features == 8
    assert small.model.a.out_features == 6
    assert list(small.kept_back.values()) == [4]
    assert "holds sizes by itself" in next(iter(small.kept_back))


def test_widths_are_kept_to_a_multiple_and_a_minimum():
    net = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 2))
    with torch.no_grad():
        net[2].weight[:, 5:] = 0
    x = torch.randn(2, 3)
    assert compact(net, x).model[0].out_features == 5
    assert compact(net, x, multiple=4).model[0].out_features == 8
    assert compact(net, x, minimum=7).model[0].out_features == 7
    assert compact(net, x, multiple=4).kept_back == {"0.weight keeps a width divisible by 4": 3}
    with torch.no_grad():
        net[2].weight.zero_()
    assert compact(net, x).model[0].out_features == 1
    with pytest.raises(RequestError, match="at least 1"):
        compact(net, x, multiple=0)


def test_shared_parameters_stay_shared():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.head = nn.Embedding(7, 6), nn.Linear(6, 7, bias=False)
            self.head.weight = self.table.weight

        def forward(self, tokens):
            return self.head(self.table(tokens))

    net = Tied()
    with torch.no_grad():
        net.table.weight[:, 2:4] = 0
    small = compact(net, torch.arange(6).reshape(2, 3)).model
    assert small.head.weight is small.table.weight
    assert (small.table.embedding_dim, small.head.in_features) == (4, 4)


def test_edits_rebuild_the_compact_model_from_the_constructor(traced):
    _, graph = traced
    masked = lively(Block())
    graph.zero_(masked, [u.id for g in graph.removable for u in g.units[::2]])
    small = compact(masked, torch.randn(2, 3, 8, 8), graph=graph)
    again = apply_edits(Block(), Edits.from_data(small.edits.as_data())).eval()
    again.load_state_dict(small.model.state_dict())
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(again(x)[0], small.model(x)[0])


def test_edits_that_do_not_fit_are_refused():
    net = nn.Linear(3, 4)
    with pytest.raises(UnknownNameError, match="did you mean 'weight'"):
        apply_edits(net, Edits(slices=(SliceEdit(name="weigth", axis=0, size=4, keep=(0,)),)))
    with pytest.raises(RequestError, match="size 5"):
        apply_edits(net, Edits(slices=(SliceEdit(name="weight", axis=0, size=5, keep=(0,)),)))
    with pytest.raises(RequestError, match="must ascend"):
        Edits.from_data(
            {
                "slices": [{"name": "w", "axis": 0, "size": 3, "keep": [2, 9]}],
                "attributes": [],
                "columns": [],
            }
        )


def test_the_comparison_rejects_a_model_that_differs():
    torch.manual_seed(0)
    net = nn.Linear(3, 4)
    other = apply_edits(net, Edits())
    assert compare(net, other, torch.randn(2, 3)).holds
    with torch.no_grad():
        other.weight[0, 0] += 1e-2
    proof = compare(net, other, torch.randn(2, 3))
    assert not proof.holds
    assert str(proof).startswith("NO proof")


def test_a_model_that_is_not_the_same_twice_is_refused():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.b(self.a(x) + torch.rand(4))

    with pytest.raises(RequestError, match="same twice"):
        compact(Noisy(), torch.randn(2, 3))


def test_what_cannot_be_shown_is_not_handed_back(monkeypatch, traced):
    _, graph = traced
    masked = lively(Block())
    graph.zero_(masked, [graph.removable[0].units[0].id])
    from espalier.compaction import _settle as settle

    honest = settle.apply_edits

    def careless(model, edits):
        small = honest(model, edits)
        with torch.no_grad():
            small.head.bias += 1
        return small

    monkeypatch.setattr(settle, "apply_edits", careless)
    with pytest.raises(RunError, match="not handed back"):
        compact(masked, torch.randn(2, 3, 8, 8), graph=graph)
