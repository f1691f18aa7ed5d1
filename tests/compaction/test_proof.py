"""A proof compares every output by its own size, at other sizes, and leaves the models alone."""

import copy

import pytest
import torch
from torch import nn

from espalier.compaction import compact, compare
from espalier.compaction._trials import drawn
from espalier.errors import RequestError


class Two(nn.Module):
    """A large output beside a small one."""

    def __init__(self, error=0.0):
        super().__init__()
        self.error = error

    def forward(self, x):
        return 1e6 * x, 1e-3 * (x + self.error)


def test_a_small_output_is_not_excused_by_a_large_one():
    proof = compare(Two(), Two(error=0.5), torch.randn(2, 3))
    assert not proof.holds
    assert proof.scale < 1
    assert compare(Two(), Two(), torch.randn(2, 3)).holds


class AtSize(nn.Module):
    """Right for eight columns, wrong for any other number."""

    def forward(self, x):
        return x if x.shape[-1] == 8 else x + 1


class OfBatch(nn.Module):
    """Right for two samples alone."""

    def forward(self, x):
        return x + (len(x) - 2)


@pytest.mark.parametrize("other", [AtSize(), OfBatch()])
def test_what_is_right_at_the_size_of_the_example_alone_is_not_proved(other):
    proof = compare(nn.Identity(), other, torch.randn(2, 3, 8, 8))
    assert not proof.holds
    assert proof.other_sizes > 1


def test_sizes_that_the_model_does_not_take_are_left_out():
    calls = drawn(nn.Linear(8, 3), torch.randn(2, 5, 8)).calls
    shapes = {tuple(args[0].shape) for args, _ in calls}
    assert (2, 6, 8) in shapes  # positions may be more
    assert all(shape[-1] == 8 for shape in shapes)  # features may not


def test_a_mask_and_tokens_grow_together():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(10, 4)

        def forward(self, tokens, mask):
            return self.table(tokens) * mask[..., None]

    example = {"tokens": torch.randint(0, 10, (2, 7)), "mask": torch.ones(2, 7)}
    calls = drawn(Model(), example).calls
    assert {named["tokens"].shape[1] for _, named in calls} == {7, 8, 11}
    assert all(named["tokens"].shape == named["mask"].shape for _, named in calls)


class Unstable(nn.Module):
    """What is left of a small number beside a large one: rounding in float32, exact in float64."""

    def __init__(self, order, error=0.0):
        super().__init__()
        self.order, self.error = order, error

    def forward(self, x):
        small = (1e-3 + self.error) * x
        return (small + 1e4) - 1e4 if self.order else small


def test_rounding_is_told_from_an_error_in_float64():
    x = torch.rand(2, 3) + 1
    proof = compare(Unstable(order=False), Unstable(order=True), x)
    assert (proof.holds, proof.doubled) == (True, True)
    assert not compare(Unstable(order=False), Unstable(order=True, error=1e-4), x).holds


def test_equal_infinities_are_no_difference_and_others_are():
    class Masked(nn.Module):
        def __init__(self, fill):
            super().__init__()
            self.fill = fill

        def forward(self, x):
            return torch.cat([x, torch.full_like(x, self.fill)], 1)

    minus = float("-inf")
    assert compare(Masked(minus), Masked(minus), torch.randn(2, 3)).holds
    assert not compare(Masked(minus), Masked(0.0), torch.randn(2, 3)).holds
    assert not compare(Masked(float("nan")), Masked(float("nan")), torch.randn(2, 3)).holds


class Counting(nn.Module):
    """Counts its calls in a buffer, and trains with statistics of the batch."""

    def __init__(self):
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls.add_(1)
        return self.b(self.norm(self.a(x)))


def test_buffers_modes_and_random_state_are_put_back():
    net = Counting().train()
    with torch.no_grad():
        net.a.weight[0], net.a.bias[0], net.norm.weight[0], net.norm.bias[0] = 0, 0, 0, 0
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    small = compact(net, torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert (small.model.calls.item(), net.training, net.norm.training) == (0, True, True)
    assert torch.equal(torch.get_rng_state(), state)


class Head(nn.Module):
    """In training its forward says a number that evaluation never meets."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 8), nn.Linear(8, 6), nn.Linear(6, 2)

    def forward(self, x):
        y = self.a(x)
        return self.c(self.b(y.view(-1, 8) if self.training else y))


def test_a_model_that_would_no_longer_train_keeps_what_it_needs():
    net = Head()
    with torch.no_grad():
        net.a.weight[:4], net.a.bias[:4], net.b.weight[:3], net.b.bias[:3] = 0, 0, 0, 0
    small = compact(net, torch.randn(5, 3))
    assert (small.model.a.out_features, small.model.b.out_features) == (8, 3)
    assert "in training mode" in next(iter(small.kept_back))
    small.model.train()(torch.randn(5, 3))


def test_a_batch_that_the_model_does_not_take_is_named():
    with pytest.raises(RequestError, match="does not run on a batch given"):
        compact(nn.Linear(3, 4), torch.randn(2, 3), [torch.randn(2, 5)])


class Scaled(nn.Module):
    """Off by a factor that the output hardly shows while the weight is small."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return 1 + 1e-5 * self.factor * x


def test_a_small_error_is_told_from_rounding_in_float64():
    proof = compare(Scaled(1.0), Scaled(1.5), torch.randn(2, 3))
    assert proof.difference < proof.tolerance * proof.scale
    assert not proof.holds
    assert "float64" in proof.mismatch


class Attention(nn.Module):
    """Scores divided by the root of the width it finds."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(6, 8, bias=False) for _ in range(3))

    def forward(self, x):
        q, k, v = self.q(x), self.k(x), self.v(x)
        return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v


def test_a_width_that_scales_the_scores_stays_though_the_weights_are_small():
    torch.manual_seed(0)
    net = Attention()
    with torch.no_grad():
        for layer in (net.q, net.k):
            layer.weight.mul_(0.04)
            layer.weight[:4] = 0
    small = compact(net, torch.randn(2, 5, 6))
    assert small.model.q.out_features == 8


class Asked(nn.Module):
    """Notes what it is asked in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.layer, self.seen = nn.Linear(3, 2), []

    def forward(self, x):
        if not self.training:
            self.seen.append(x.sum().item())
        return self.layer(x)


def test_the_masked_model_runs_once_on_every_batch_that_is_drawn():
    model = Asked()
    assert drawn(model, torch.randn(2, 3)).other_sizes > 0
    assert len(model.seen) == len(set(model.seen))
