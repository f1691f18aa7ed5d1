"""The quantised levels: nearest by enumeration, the best distance by a dense grid."""

from itertools import combinations, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espalier.errors import NonFiniteError, RequestError, ShapeError
from espalier.sets import Levels, Unstructured
from espalier.sets._levels import alternating_step, exact_step


def enumerated(a, h, half):
    """The least error over every assignment of levels, each with its own best distance."""
    best = float("inf")
    for k in product(range(1, half + 1), repeat=len(a)):
        k = torch.tensor(k, dtype=a.dtype)
        q = (h * a * k).sum() / (h * k * k).sum()
        best = min(best, float((h * (a - q * k).square()).sum()))
    return best


def error(a, h, half, q):
    k = torch.stack([(a - q * n).abs() for n in range(1, half + 1)]).argmin(0).to(a) + 1
    return float((h * (a - q * k).square()).sum())


floats = st.floats(0.01, 10.0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(floats, st.floats(0.01, 1.0)), min_size=1, max_size=5), st.integers(1, 3))
def test_the_distance_is_the_best_of_all_assignments(pairs, bits):
    a, h = torch.tensor(pairs, dtype=torch.float64).T
    half = Levels(bits).half
    q = exact_step(a.contiguous(), h.contiguous(), half)
    assert error(a, h, half, q) == pytest.approx(enumerated(a, h, half), rel=1e-9, abs=1e-12)


def test_the_enumeration_rejects_the_greatest_weight_over_n():
    a, h = torch.tensor([0.2, 0.3, 3.0], dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    assert error(a, h, 2, 3.0 / 2) > 1.01 * enumerated(a, h, 2)


@pytest.mark.parametrize("bits", [1, 2, 3, 5, 8])
def test_no_point_of_a_dense_grid_is_better(bits):
    w = torch.randn(400, generator=torch.Generator().manual_seed(bits), dtype=torch.float64)
    h = torch.rand(400, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    levels = Levels(bits)
    grid = torch.linspace(1e-3, float(w.abs().max()), 3000, dtype=torch.float64)
    best = min(levels.error(w, float(q), h) for q in grid)
    assert levels.error(w, levels.step(w, h), h) <= best
    fast = alternating_step(w.abs(), h, levels.half)
    assert levels.error(w, fast, h) <= best


def test_one_bit_is_the_mean_magnitude():
    w = torch.tensor([1.0, -2.0, 0.0, 6.0])
    assert Levels(1).project(w).tolist() == [3.0, -3.0, 0.0, 3.0]
    weighted = Levels(1).project(w, metric=torch.tensor([1.0, 1.0, 5.0, 0.0]))
    assert weighted.tolist() == [1.5, -1.5, 0.0, 1.5]


@pytest.mark.parametrize(
    ("w", "bits", "z"),
    [
        ([0.0, 0.0], 2, [0.0, 0.0]),
        ([], 2, []),
        ([5.0], 3, [5.0]),
        ([-1.0, 2.0, 3.0, -4.0], 3, [-1.0, 2.0, 3.0, -4.0]),
        ([0.5, 1.0, 100.0], 1, [101.5 / 3] * 3),
    ],
)
def test_literal_projections(w, bits, z):
    assert Levels(bits).project(torch.tensor(w)).tolist() == pytest.approx(z)


def test_a_tie_between_levels_goes_down():
    w = torch.tensor([1.5, -1.5, 2.5, 9.0, 0.1])
    assert Levels(3).nearest(w, 1.0).tolist() == [1.0, -1.0, 2.0, 4.0, 1.0]


def test_zeros_stay_and_no_weight_becomes_one():
    w = torch.randn(1000, generator=torch.Generator().manual_seed(0)) ** 5
    w[::3] = 0
    for bits in (1, 2, 4):
        assert torch.equal(Levels(bits).project(w) != 0, w != 0)


def test_a_given_support_makes_zeros_levels_and_other_weights_zero():
    w, on = torch.tensor([0.0, 2.0, 2.0]), torch.tensor([True, True, False])
    z = Levels(1).project(w, support=on)
    assert z.tolist() == [1.0, 1.0, 0.0]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=40), st.integers(1, 6))
def test_projection_is_idempotent_odd_and_codes_give_it_back_to_the_bit(values, bits):
    w, levels = torch.tensor(values), Levels(bits)
    before = w.clone()
    z = levels.project(w)
    assert torch.equal(w, before)
    assert levels.contains(z)
    assert torch.equal(levels.project(-w), -z + 0.0)
    k, q = levels.codes(z)
    assert int(k.abs().max()) <= levels.half
    assert torch.equal(k * torch.tensor(q), z)
    assert torch.allclose(levels.project(z), z, rtol=1e-6, atol=0)


def test_what_is_off_the_levels_is_noticed():
    assert not Levels(2).contains(torch.tensor([1.0, 2.0, 3.0]))
    assert Levels(3).contains(torch.tensor([1.0, 2.0, 3.0]))
    assert not Levels(3).contains(torch.tensor([1.0, 2.0001]))
    assert Levels(3).contains(torch.tensor([2.0, -3.0]))  # q = 1 though no weight is ±1
    with pytest.raises(RequestError, match="4 equally spaced"):
        Levels(2).codes(torch.tensor([1.0, 2.0, 3.0]))


def test_pruning_first_and_quantising_then_is_the_nearest_point_of_both():
    """For every q the gain a² − (a − f_q(a))² of keeping a weight grows with |a|: the largest stay."""
    g = torch.Generator().manual_seed(3)
    for _ in range(20):
        w, keep, levels = torch.randn(6, generator=g, dtype=torch.float64), 3, Levels(2)
        z = levels.project(Unstructured().project(w, keep))
        best = min(
            float((w - on * w).square().sum()) + enumerated(w[on].abs(), torch.ones(3), levels.half)
            for chosen in combinations(range(6), keep)
            for on in [torch.isin(torch.arange(6), torch.tensor(chosen))]
        )
        assert float((w - z).square().sum()) == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_is_kept_and_the_graph_left(dtype):
    w = torch.randn(3, 4, 5).to(dtype).requires_grad_()
    z = Levels(3).project(w)
    assert z.dtype == dtype
    assert z.shape == w.shape
    assert not z.requires_grad
    assert Levels(3).contains(z)


def test_weights_of_any_scale():
    w = torch.tensor([1.0, -2.0, 2.9])
    for scale in (1e-30, 1e30):
        assert torch.allclose(Levels(2).project(w * scale) / scale, Levels(2).project(w), rtol=1e-5)


def test_a_metric_of_zeros_is_the_plain_norm():
    w = torch.tensor([1.0, 5.0])
    assert torch.equal(Levels(1).project(w, metric=torch.zeros(2)), Levels(1).project(w))


@pytest.mark.parametrize("bits", [0, 17, -1, True])
def test_bits_are_a_count(bits):
    with pytest.raises(RequestError, match="1 to 16"):
        Levels(bits)


def test_what_cannot_be_projected_is_refused():
    w = torch.tensor([1.0, 2.0])
    with pytest.raises(NonFiniteError):
        Levels(2).project(torch.tensor([1.0, float("nan")]))
    with pytest.raises(ShapeError, match="metric"):
        Levels(2).project(w, metric=torch.ones(3))
    with pytest.raises(ShapeError, match="support"):
        Levels(2).project(w, support=torch.ones(3, dtype=torch.bool))
    with pytest.raises(RequestError, match=">= 0"):
        Levels(2).project(w, metric=torch.tensor([1.0, -1.0]))
