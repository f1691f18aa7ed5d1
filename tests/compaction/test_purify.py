"""Purification equals the paper's algorithm on a chain, and keeps coupled channels and the guard."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from espalier.compaction import Size, compact, compare, purify, remove_unused_paths
from espalier.compaction._fixed_point import judged, purified
from espalier.compaction._purification import Thresholds, weak_alone, weak_as_empty
from espalier.errors import RequestError, UnknownNameError
from espalier.graph import channel_graph

X = torch.randn(2, 2, 7, 7, generator=torch.Generator().manual_seed(0))


def chain(seed):
    """Four convolutions without biases, and weights of very unequal size."""
    generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(2, 5, 2, bias=False),
        nn.ReLU(),
        nn.Conv2d(5, 4, 2, bias=False),
        nn.ReLU(),
        nn.Conv2d(4, 4, 2, bias=False),
        nn.ReLU(),
        nn.Conv2d(4, 3, 2, bias=False),
    )
    with torch.no_grad():
        for module in net[::2]:
            w = module.weight
            size = 10 ** torch.empty(w[:1].shape).uniform_(-4, 0, generator=generator)
            loud = 10 ** torch.empty(w[:, :1, :1, :1].shape).uniform_(-2, 0, generator=generator)
            w.copy_(torch.randn(w.shape, generator=generator) * size * loud)
            w[:, torch.rand(w.shape[1:], generator=generator) < 0.3] = 0
    return net.eval()


def algorithm_1(weights, thresholds, treated_as_empty):
    """The paper's algorithm with plain loops, repeated until nothing changes."""
    weights = [w.detach().double().clone() for w in weights]

    def columns(w):
        return [
            (j, a, b)
            for j in range(w.shape[1])
            for a in range(w.shape[2])
            for b in range(w.shape[3])
        ]

    def energy(w, column):
        return float((w[:, column[0], column[1], column[2]] ** 2).sum())

    def mean(values):
        live = [v for v in values if v > 0]
        return sum(live) / len(live) if live else 0.0

    scales = []
    for w in weights:
        sigmas = [
            sum(energy(w, c) for c in columns(w) if c[0] == j) / w[0, 0].numel()
            for j in range(w.shape[1])
        ]
        scales.append(
            (
                mean([energy(w, c) for c in columns(w)]),
                mean(sigmas),
                mean([float((f**2).sum()) for f in w]),
            )
        )
    while True:
        before = sum(int(w.count_nonzero()) for w in weights)
        for i, w in enumerate(weights):
            th1, th3, th4 = (
                t * s
                for t, s in zip(
                    (thresholds.column, thresholds.energy, thresholds.filter),
                    scales[i],
                    strict=True,
                )
            )
            delta = w[0, 0].numel()
            for j in range(w.shape[1]):
                eta = sigma = 0.0
                for c in (c for c in columns(w) if c[0] == j):
                    weak = energy(w, c) < th1
                    if weak and treated_as_empty:
                        w[:, c[0], c[1], c[2]] = 0
                    if weak != treated_as_empty:
                        eta += (energy(w, c) > 0) / delta
                        sigma += energy(w, c) / delta
                if eta < thresholds.fraction and sigma < th3:
                    w[:, j] = 0
                    if i > 0:
                        weights[i - 1][j] = 0
            if i + 1 == len(weights):
                continue  # the last layer's filters are the model's outputs
            for m in range(len(w)):
                if not w[m].any() or float((w[m] ** 2).sum()) < th4:
                    w[m] = 0
                    weights[i + 1][:, m] = 0
            # unused paths: a filter that nothing reads
            for m in range(len(w)):
                if not weights[i + 1][:, m].any():
                    w[m] = 0
        if before == sum(int(w.count_nonzero()) for w in weights):
            return weights


@pytest.fixture(scope="module")
def chain_graph():
    return channel_graph(chain(0), X)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 10**6),
    st.builds(
        Thresholds,
        column=st.sampled_from([0.0, 1e-4, 1e-2, 0.2]),
        fraction=st.sampled_from([0.1, 0.5, 0.9]),
        energy=st.sampled_from([1e-3, 1e-1, 0.5]),
        filter=st.sampled_from([1e-4, 1e-2, 0.3]),
    ),
)
def test_on_a_chain_it_is_the_papers_algorithm(chain_graph, seed, thresholds):
    net = chain(seed)
    layers = judged(net, chain_graph)
    found, _ = purified(net, layers, thresholds)
    expected = algorithm_1([m.weight for m in net[::2]], thresholds, treated_as_empty=True)
    for module, w in zip(found[::2], expected, strict=True):
        assert torch.equal(module.weight != 0, w != 0)
        assert torch.equal(module.weight, w.float())
    again, _ = purified(found, layers, thresholds)
    for module, twice in zip(found[::2], again[::2], strict=True):
        assert torch.equal(module.weight, twice.weight)


def test_reading_b_prunes_channels_without_weak_columns_and_a_does_not():
    net = nn.Sequential(nn.Conv2d(2, 3, 2, bias=False), nn.ReLU(), nn.Conv2d(3, 2, 2, bias=False))
    with torch.no_grad():
        for module in net[::2]:
            module.weight.fill_(1.0)
    layers = judged(net, channel_graph(net, X))
    thresholds = Thresholds(column=0.5, fraction=0.5, energy=0.5)
    assert purified(net, layers, thresholds, weak_as_empty)[0][0].weight.all()
    assert not purified(net, layers, thresholds, weak_alone)[0][0].weight.any()
    one_pass = algorithm_1([m.weight for m in net[::2]], thresholds, treated_as_empty=False)
    assert not any(w.any() for w in one_pass)


class Residual(nn.Module):
    """A stem and a block whose second convolution writes what the stem writes; both are read twice."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.one = nn.Conv2d(4, 3, 3, padding=1)
        self.two, self.last = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.head = nn.Linear(4 * 4, 2)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        x = F.relu(x + self.last(self.two(F.relu(self.one(x)))))
        return self.head(F.adaptive_avg_pool2d(x, 2).flatten(1))


@pytest.fixture
def residual():
    torch.manual_seed(3)
    net = Residual().eval()
    for norm in (net.norm, net.last):
        nn.init.uniform_(norm.bias, 0.5, 1.0)
        nn.init.normal_(norm.running_mean)
    return net, channel_graph(net, X)


WEAK = Thresholds(column=1e-3, fraction=1.0, energy=1e-3, filter=1e-3)


def test_one_weak_filter_of_a_residual_stage_keeps_the_channel(residual):
    net, graph = residual
    with torch.no_grad():
        net.stem.weight[1] *= 1e-4
    found, _ = purified(net, judged(net, graph), WEAK)
    assert torch.equal(found.stem.weight, net.stem.weight)


def test_all_weak_filters_of_a_residual_stage_take_the_channel_with_constants_and_reads(residual):
    net, graph = residual
    with torch.no_grad():
        net.stem.weight[1] *= 1e-4
        net.two.weight[1] = 0
    found, _ = purified(net, judged(net, graph), WEAK)
    for gone in (found.stem.weight[1], found.stem.bias[1], found.norm.weight[1], found.norm.bias[1],
                 found.two.weight[1], found.last.bias[1], found.one.weight[:, 1],
                 found.head.weight[:, 4:8]):  # fmt: skip
        assert not gone.any()
    assert found.stem.weight[[0, 2, 3]].all()
    small = compact(found, X)
    assert small.model.stem.out_channels == 3
    assert small.after.nonzero == Size.of(found).nonzero


def test_a_channel_goes_when_every_layer_that_reads_it_agrees(residual):
    net, graph = residual
    with torch.no_grad():
        net.one.weight[:, 2] *= 1e-4
    layers = judged(net, graph)
    found, _ = purified(net, layers, WEAK)
    assert not found.one.weight[:, 2].any()  # that layer no longer reads it …
    assert found.stem.weight[2].any()  # … the head does
    with torch.no_grad():
        net.head.weight[:, 8:12] *= 1e-4
    found, gone = purified(net, layers, WEAK)
    assert not found.stem.weight[2].any()
    assert not found.two.weight[2].any()
    assert len(gone) == 1


def test_named_layers_alone_are_judged(residual):
    net, graph = residual
    with torch.no_grad():
        net.one.weight[:, 2] *= 1e-4
    found, _ = purified(net, judged(net, graph, ["two.weight"]), WEAK)
    assert torch.equal(found.one.weight, net.one.weight)
    with pytest.raises(UnknownNameError, match=r"did you mean 'one\.weight'"):
        judged(net, graph, ["one.wait"])


def test_unused_path_removal_changes_no_output_and_counts_as_the_compact_model(residual):
    net, graph = residual
    with torch.no_grad():
        net.head.weight[:, :4] = 0
        net.one.weight[:, 0] = 0
        net.two.weight[:, 1] = 0  # one's filter 1 is read by nothing
    found = remove_unused_paths(net, X, graph=graph)
    assert compare(net, found, X).difference == 0
    assert not found.stem.weight[0].any()
    assert not found.one.weight[1].any()
    assert found.one.bias[1] == 0
    small = compact(net, X)
    assert Size.of(found).nonzero == small.after.nonzero < Size.of(net).nonzero
    again = remove_unused_paths(found, X, graph=graph)
    assert all(
        torch.equal(a, b)
        for a, b in zip(found.state_dict().values(), again.state_dict().values(), strict=True)
    )


def test_a_constant_that_can_be_folded_is_and_the_function_stays():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Conv2d(4, 3, 3)).eval()
    with torch.no_grad():
        net[0].weight[1], net[0].bias[1] = 0, 2.0
    found = remove_unused_paths(net, X)
    assert found[0].bias[1] == 0
    assert not found[2].weight[:, 1].any()
    assert compare(net, found, X).difference < 1e-5


def near(net, x):
    """A score that falls with the distance from what the model computed at first, relative to it."""
    with torch.no_grad():
        expected = net(x)
        scale = float(expected.abs().max())
    return torch.no_grad()(lambda model: -float((model(x) - expected).abs().max()) / scale)


@pytest.mark.parametrize("max_drop", [0.0, 0.05])
def test_the_guard_is_kept_and_the_result_is_the_same_twice(max_drop):
    net = chain(5)
    found, again = (purify(net, X, near(net, X), max_drop=max_drop) for _ in range(2))
    assert near(net, X)(found.model) >= -max_drop
    assert found.score_after == near(net, X)(found.model)
    assert found.thresholds == again.thresholds
    assert all(
        torch.equal(a, b)
        for a, b in zip(found.model.parameters(), again.model.parameters(), strict=True)
    )
    assert found.after.conv_only.nonzero <= found.before.conv_only.nonzero


def test_a_looser_guard_removes_more_and_no_guard_leaves_nothing_weak():
    net = chain(5)
    left = [
        purify(net, X, near(net, X), max_drop=drop).after.conv_only.nonzero
        for drop in (0, 0.05, 1e9)
    ]
    assert left[0] > left[1] > left[2] == 0
    free = purify(net, X, near(net, X), max_drop=1e9)
    assert free.thresholds == Thresholds(column=1.0, fraction=1.0, energy=1.0, filter=1.0)


def test_a_score_that_is_not_steady_still_keeps_the_guard():
    net = chain(7)
    full = int(net[0].weight.count_nonzero())

    def fickle(model):
        return 1.0 if int(model[0].weight.count_nonzero()) in (full, full - 2, full - 8) else 0.0

    found = purify(net, X, fickle, max_drop=0.5)
    assert fickle(found.model) == found.score_after == 1.0


def test_where_rounding_costs_score_and_none_may_be_lost_the_model_is_returned_as_it_was():
    net = nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Conv2d(4, 3, 3)).eval()
    with torch.no_grad():
        net[0].weight[1], net[0].bias[1] = 0, 2.0
    found = purify(net, X, lambda m: float(m[0].bias[1]), max_drop=0)
    assert (found.score_after, found.channels) == (2.0, 0)
    assert torch.equal(found.model[0].bias, net[0].bias)


def test_the_model_given_is_not_changed_and_what_cannot_be_is_refused():
    net = chain(5).train()
    before = [p.clone() for p in net.parameters()]
    seen = []
    purify(net, X, lambda m: float(seen.append(m.training) or 1.0), max_drop=0)
    assert net.training
    assert not any(seen)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    with pytest.raises(RequestError, match="max_drop=-1"):
        purify(net, X, len, max_drop=-1)
    with pytest.raises(RequestError, match="evaluate gives nan"):
        purify(net, X, lambda m: float("nan"))


def test_the_table_and_the_dict_say_the_papers_count():
    net = chain(5)
    found = purify(net, X, near(net, X), max_drop=0.05)
    said = found.to_dict()
    assert said["counts"]["before"]["conv_only"]["total"] == 40 + 80 + 64 + 48
    assert said["counts"]["after"]["conv_only"]["nonzero"] == found.after.conv_only.nonzero
    assert [column.header for column in found.table().columns][2:] == [
        "left before",
        "",
        "left after",
        "",
    ]
