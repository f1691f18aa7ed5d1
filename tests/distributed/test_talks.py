"""Constraints over ranks find what they find on one, bit for bit; every rank in one process."""

import pytest
import torch

from espalier._ground.selection import Candidates, longest_run
from espalier._ground.sharding import Piece
from espalier.errors import NonFiniteError, RequestError
from espalier.sets import (
    Alone,
    Along,
    Blocks,
    Channels,
    Columns,
    Coupled,
    Filters,
    FiltersAndColumns,
    KernelPatterns,
    Kernels,
    NOfM,
    Product,
    Shared,
    Unstructured,
    Within,
)
from espalier.sets._inside_over_ranks import contains
from espalier.sets._over_ranks import implied, support
from talks import answered, joined_parts, pieces

SETS = [
    Unstructured(), Filters(), Channels(), Columns(), Kernels(), KernelPatterns(), NOfM(2, 4),
    Blocks(2, 3),
]  # fmt: skip
SHAPE = (12, 8, 3, 3)
KINDS = ["random", "constant", "tied", "zero", "nearly"]


def drawn(kind, shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator)
    if kind == "constant":
        return torch.full(shape, 0.3)
    if kind == "tied":
        return torch.randint(-2, 3, shape, generator=generator) * 0.1
    if kind == "nearly":  # floats that differ in their last bits, and one far above
        x = 0.7 + torch.randint(0, 3, shape, generator=generator) * 2.0**-24
        x.view(-1)[3] = 1e6
        return x
    return 0 * x if kind == "zero" else x


def found_by(part, w, size, axis=0, h=None, whole=()):
    """The masks of all ranks put together."""
    h = h or {}
    own = [pieces({n: x.shape for n, x in w.items()}, size, r, axis, whole) for r in range(size)]
    parts = [{n: own[r][n].part(x) for n, x in w.items()} for r in range(size)]
    metrics = [{n: own[r][n].part(x) for n, x in h.items()} for r in range(size)]
    found, rounds, sent = answered(
        [support(part, *each) for each in zip(parts, metrics, own, strict=True)]
    )
    return {n: joined_parts([f[n] for f in found], own[0][n]) for n in found[0]}, rounds, sent


def inside(part, w, size, axis=0):
    own = [pieces({n: x.shape for n, x in w.items()}, size, r, axis) for r in range(size)]
    told = answered(
        [contains(part, {n: own[r][n].part(x) for n, x in w.items()}, own[r]) for r in range(size)]
    )[0]
    assert len(set(told)) == 1
    return told[0]


def assert_same(part, w, size, axis=0, h=None, whole=()):
    expected = part.support(w, h)
    found, rounds, sent = found_by(part, w, size, axis, h, whole)
    for name in expected:
        assert torch.equal(found[name], expected[name]), name
    cut = {n: torch.where(expected[n], w[n], 0) for n in expected}
    ones = {n: torch.ones_like(x) for n, x in cut.items()}
    assert inside(part, cut, size, axis) == part.contains(cut)
    assert inside(part, ones, size, axis) == part.contains(ones)
    return rounds, sent


@pytest.mark.parametrize("which", SETS, ids=lambda s: s.name)
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_every_set_keeps_the_units_it_keeps_on_one_rank(which, size):
    for kind in KINDS:
        x = drawn(kind, SHAPE)
        for metric in (None, torch.rand(SHAPE, generator=torch.Generator().manual_seed(1))):
            for fraction in (0.0, 0.3, 1.0):
                part = Alone("w", SHAPE, which, int(which.units(SHAPE) * fraction))
                h = None if metric is None else {"w": metric}
                if isinstance(which, Blocks) and size == 5:
                    with pytest.raises(RequestError, match="cut through its blocks"):
                        found_by(part, {"w": x}, size, h=h)
                else:
                    rounds, _ = assert_same(part, {"w": x}, size, h=h)
                    assert rounds <= 31


@pytest.mark.parametrize(
    "which", [Unstructured(), Filters(), Channels(), Kernels()], ids=lambda s: s.name
)
def test_another_axis_than_the_first_may_be_sharded(which):
    for kind in KINDS:
        keep = which.units(SHAPE) // 3
        assert_same(Alone("w", SHAPE, which, keep), {"w": drawn(kind, SHAPE)}, 3, axis=1)


def test_the_traffic_does_not_grow_with_the_tensor():
    told = []
    for rows in (10, 1000):
        shape = (rows, 40)
        part = Alone("w", shape, Unstructured(), rows * 10)
        told.append(assert_same(part, {"w": drawn("random", shape)}, 4))
    assert told[0] == told[1]
    assert told[0][1] < 10_000


def test_all_tensors_are_chosen_in_the_rounds_of_one():
    shapes = {f"w{i}": (6 + i, 5) for i in range(20)}
    product = Product(
        parts=tuple(Alone(n, s, Unstructured(), 11) for n, s in shapes.items()), shapes=shapes
    )
    w = {n: drawn("random", s, seed) for seed, (n, s) in enumerate(shapes.items())}
    one = {"w0": w["w0"]}
    assert (
        found_by(product, w, 3)[1] == found_by(Alone("w0", (6, 5), Unstructured(), 11), one, 3)[1]
    )


THREE = {"a": (10, 6), "b": (7, 6), "c": (5, 6)}


@pytest.mark.parametrize("which", [Unstructured(), Filters(), Columns()], ids=lambda s: s.name)
@pytest.mark.parametrize("costs", [(1, 1, 1), (3, 2, 7)])
def test_a_shared_budget_is_spent_on_the_same_units(which, costs):
    prices = dict(zip(THREE, costs, strict=True))
    for kind in KINDS:
        w = {n: drawn(kind, s, seed) for seed, (n, s) in enumerate(THREE.items())}
        for fraction in (0.2, 0.6, 1.0):
            total = Shared(which, prices, 1).total(THREE)
            part = Shared(which, prices, max(12, int(total * fraction)), minimum=1)
            for whole in ((), ("b",)):  # a tensor that every rank has whole competes with parts
                assert_same(part, w, 3, whole=whole)


UNITS = tuple(range(10))
FOUR = {"a": (10, 6), "b": (7, 20), "c": (9, 20), "bias": (10,)}


@pytest.mark.parametrize("size", [1, 2, 4, 6])  # of six ranks the last holds no row of `a`
def test_units_that_run_through_several_tensors_go_together(size):
    pairs = Along(1, tuple(i // 2 for i in range(20)))
    coupled = Coupled(
        sizes=(10,), keep=(4,), members={"a": Along(0, UNITS), "b": pairs},
        implied={"bias": (Along(0, UNITS),)},
    )  # fmt: skip
    taking = Coupled(
        sizes=(10,), keep=(4,), members={"a": Along(0, UNITS)},
        implied={"c": (pairs,), "bias": (Along(0, UNITS),)},
    )  # fmt: skip
    product = Product(
        parts=(
            taking,
            Alone("b", (7, 20), Unstructured(), 30),
            Alone("c", (9, 20), NOfM(2, 4), 20),
        ),
        shapes={n: FOUR[n] for n in "abc"},
    )
    own = [pieces(FOUR, size, rank) for rank in range(size)]
    for kind in KINDS[:4]:
        w = {n: drawn(kind, s, seed) for seed, (n, s) in enumerate(FOUR.items())}
        assert_same(coupled, {n: w[n] for n in "ab"}, size)
        assert_same(product, {n: w[n] for n in "abc"}, size)
        masks = product.support(w)
        parts = [{n: own[r][n].part(m) for n, m in masks.items()} for r in range(size)]
        found, _, _ = answered([implied(product, parts[r], FOUR, own[r]) for r in range(size)])
        for name, mask in product.implied(masks, w).items():
            assert torch.equal(joined_parts([f[name] for f in found], own[0][name]), mask)


def test_masks_of_survivors_are_cut_like_the_weights():
    masks = {"a": drawn("random", (10, 6)) > 0}
    w = {"a": drawn("random", (10, 6), 1)}
    found, _, _ = found_by(Within(masks), w, 3)
    assert torch.equal(found["a"], masks["a"])
    assert not inside(Within(masks), w, 3)
    assert inside(Within(masks), {"a": w["a"] * masks["a"]}, 3)


def test_a_weight_that_is_not_finite_is_refused_on_every_rank():
    x = drawn("random", (9, 4))
    x[8, 0] = torch.nan
    with pytest.raises(NonFiniteError, match="w: the weights hold NaN"):
        found_by(Alone("w", (9, 4), Unstructured(), 5), {"w": x}, 3)


def test_sets_that_need_the_whole_tensor_are_refused_by_name():
    part = Alone("w", SHAPE, FiltersAndColumns(), (3, 5))
    with pytest.raises(RequestError, match=r"w: filters_and_columns: .* whole tensor"):
        found_by(part, {"w": drawn("random", SHAPE)}, 2)
    with pytest.raises(RequestError, match=r"n_of_m: parts of .* cut through its groups"):
        found_by(Alone("w", SHAPE, NOfM(2, 4), 5), {"w": drawn("random", SHAPE)}, 3, axis=1)


def test_a_run_takes_negative_and_infinite_scores_in_their_order():
    scores = torch.tensor([-1.0, torch.inf, -torch.inf, 0.0, -0.0, -1.0, 2.0])
    for dtype in (torch.float32, torch.float64):
        for keep in range(8):
            order = scores.argsort(descending=True, stable=True)
            expected = torch.zeros(7, dtype=torch.bool).index_fill(0, order[:keep], True)
            halves = [Piece.chunk((7,), 0, 2, rank) for rank in range(2)]
            units = [Candidates(scores=p.part(scores).to(dtype), places=p.places) for p in halves]
            found, _, _ = answered([longest_run([u], keep, 7) for u in units])
            assert torch.equal(torch.cat([masks[0] for masks, _ in found]), expected)
