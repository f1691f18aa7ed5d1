"""Products of parts, survivors and levels: nearest points against brute force, opening, membership."""

from itertools import product as tuples

import pytest
import torch
from torch import nn

from espalier.errors import BudgetError, RequestError, ShapeError, UnknownNameError
from espalier.sets import (
    Alone,
    Along,
    Constraint,
    Coupled,
    Filters,
    FiltersAndColumns,
    Levels,
    NOfM,
    OnLevels,
    Product,
    Shared,
    Unstructured,
    Within,
)

SHAPES = {"a": (4,), "b": (3,), "c": (2,), "u": (3, 1), "v": (3,)}
LINE = Along(0, (0, 1, 2))


def _three_kinds():
    return Product(
        parts=(
            Coupled(sizes=(3,), keep=(2,), members={"u": LINE, "v": LINE}),
            Shared(Unstructured(), {"b": 1, "c": 1}, 3),
            Alone("a", (4,), Unstructured(), 2),
        ),
        shapes=SHAPES,
    )


def _reader():
    """Head ``h`` (2, 4) is pruned alone and reads two inputs of each of two coupled units."""
    return Product(
        parts=(
            Alone("h", (2, 4), Unstructured(), 3),
            Coupled(
                sizes=(2,), keep=(1,), members={"u": Along(0, (0, 1))},
                implied={"h": (Along(1, (0, 0, 1, 1)),), "elsewhere": (Along(0, (0, 1)),)},
            ),
        ),
        shapes={"u": (2, 2), "h": (2, 4)},
    )  # fmt: skip


def _draw(shapes, seed, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return {
        n: torch.randn(s, generator=g, dtype=torch.float64).to(dtype) for n, s in shapes.items()
    }


def _metric(shapes, seed):
    g = torch.Generator().manual_seed(100 + seed)
    return {n: torch.rand(s, generator=g, dtype=torch.float64) + 0.1 for n, s in shapes.items()}


def _distance(z, w, h):
    return sum(float((h[n] * (z[n] - w[n]) ** 2).sum()) for n in w)


def _supports(shape):
    numel = int(torch.tensor(shape).prod())
    for bits in tuples((0.0, 1.0), repeat=numel):
        yield torch.tensor(bits, dtype=torch.float64).reshape(shape)


def _nearest_by_brute_force(constraint, names, w, h):
    """The least distance of any point 0/1-masked from ``w`` that the constraint contains."""
    shapes = [w[n].shape for n in names]
    best = float("inf")
    for masks in tuples(*(list(_supports(s)) for s in shapes)):
        z = {**w, **{n: w[n] * m for n, m in zip(names, masks, strict=True)}}
        if constraint({n: z[n] for n in names}):
            best = min(best, _distance(z, w, h))
    return best


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("weighted", [False, True])
def test_the_product_is_the_nearest_point_of_each_part_by_brute_force(seed, weighted):
    whole, w = _three_kinds(), _draw(SHAPES, seed)
    h = _metric(SHAPES, seed) if weighted else {n: torch.ones_like(t) for n, t in w.items()}
    z = whole.project(w, h if weighted else None)
    tests = {  # membership in plain words, not by the parts' own ``contains``
        ("a",): lambda z: int((z["a"] != 0).sum()) <= 2,
        ("b", "c"): lambda z: (
            max(1, int((z["b"] != 0).sum())) + max(1, int((z["c"] != 0).sum())) <= 3
        ),
        ("u", "v"): lambda z: int(((z["u"][:, 0] != 0) | (z["v"] != 0)).sum()) <= 2,
    }
    for names, inside in tests.items():
        mine = {n: w[n] for n in names}
        assert inside({n: z[n] for n in names})
        least = _nearest_by_brute_force(inside, names, mine, h)
        if names == (
            "b",
            "c",
        ):  # one weight of each stays, by the minimum: brute force obeys it too
            stays = {n: w[n].abs() * h[n].sqrt() for n in names}
            assert all(z[n][stays[n].argmax()] != 0 for n in names)
            assert _distance({n: z[n] for n in names}, mine, h) >= least
        else:
            assert _distance({n: z[n] for n in names}, mine, h) == pytest.approx(least, rel=1e-12)
    assert whole.contains(z)
    assert not whole.contains(w)
    assert list(z) == list(SHAPES)


@pytest.mark.parametrize("seed", range(5))
def test_a_reader_of_units_that_go_keeps_its_count_among_what_is_alive(seed):
    whole, w = _reader(), _draw({"u": (2, 2), "h": (2, 4)}, seed)
    z = whole.project(w)
    gone = int(w["u"].square().sum(1).argmin())
    alive = torch.tensor([0, 0, 1, 1]) != gone
    assert torch.equal(z["u"].any(1), torch.arange(2) != gone)
    best = (
        w["h"].abs().mul(alive).flatten().topk(3).indices
    )  # the nearest with these columns at zero
    expected = torch.zeros(8, dtype=torch.float64)
    expected[best] = w["h"].flatten()[best]
    assert torch.equal(z["h"], expected.reshape(2, 4))
    assert whole.contains(z)
    assert torch.equal(whole.project(z)["h"], z["h"])
    masks = whole.support(w)
    implied = whole.implied(masks, {"u": w["u"], "h": w["h"], "elsewhere": torch.zeros(2, 5)})
    assert torch.equal(implied["h"], masks["h"])
    assert implied["elsewhere"].any(1).tolist() == [gone == 1, gone == 0]
    z["h"] = torch.zeros(2, 4, dtype=torch.float64)
    z["h"][0, (~alive).nonzero()[0]] = 1.0
    assert not whole.contains(z)  # within its keep, but read by nothing


CONSTRAINTS = {
    "three kinds": (_three_kinds(), SHAPES),
    "a reader": (_reader(), {"u": (2, 2), "h": (2, 4)}),
    "a pair": (
        Product(parts=(Alone("w", (3, 4), FiltersAndColumns(), (1, 2)),), shapes={"w": (3, 4)}),
        {"w": (3, 4)},
    ),
    "on levels": (OnLevels(_three_kinds(), {"a": Levels(1), "u": Levels(2)}), SHAPES),
}


@pytest.mark.parametrize("name", CONSTRAINTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_opened_by_nothing_it_is_itself_and_opened_wholly_everything(name, dtype):
    constraint, shapes = CONSTRAINTS[name]
    assert isinstance(constraint, Constraint)
    w = _draw(shapes, 7, dtype)
    assert constraint.opened(0.0) is constraint
    everything = constraint.opened(1.0)
    assert everything.contains(w)
    assert all(torch.equal(z, w[n]) for n, z in everything.project(w).items())
    z = constraint.project(w)
    assert constraint.contains(z)
    assert {t.dtype for t in z.values()} == {dtype}
    support = constraint.support(w)
    assert all(torch.equal(z[n] != 0, support[n] & (w[n] != 0)) for n in z)
    half = constraint.opened(0.5)
    assert half.contains(half.project(w))
    for slack in (-0.1, 1.5, float("nan")):
        with pytest.raises(BudgetError, match="slack="):
            constraint.opened(slack)


def test_units_that_are_sparse_themselves_stay_so_when_all_of_them_may_stay():
    alone = Product(parts=(Alone("w", (2, 8), NOfM(2, 4), 1),), shapes={"w": (2, 8)})
    w = _draw({"w": (2, 8)}, 0)
    assert int(alone.project(w)["w"].count_nonzero()) == 2
    opened = alone.opened(1.0)
    assert int(opened.project(w)["w"].count_nonzero()) == 8
    assert not opened.contains(w)


def test_the_density_is_what_may_stay():
    # 2 of 4; 3 of 5; 2 of 3 units in u and in v
    assert _three_kinds().density == (2 + 3 + 2 + 2) / 15
    assert _reader().density == (3 + 2) / 12
    tight = Product(
        parts=(Alone("h", (2, 4), Unstructured(), 7), _reader().parts[1]),
        shapes={"u": (2, 2), "h": (2, 4)},
    )
    assert tight.density == (4 + 2) / 12


def test_every_tensor_is_in_exactly_one_part():
    alone = Alone("a", (4,), Unstructured(), 2)
    with pytest.raises(RequestError, match="a: a product needs"):
        Product(parts=(alone, alone), shapes={"a": (4,)})
    with pytest.raises(RequestError, match="b: a product needs"):
        Product(parts=(alone,), shapes={"a": (4,), "b": (1,)})
    with pytest.raises(RequestError, match="a: a product needs"):
        Product(parts=(alone,), shapes={})
    with pytest.raises(BudgetError, match=r"^a: keep=5"):
        Alone("a", (4,), Unstructured(), 5)


def test_missing_and_misshapen_weights_are_named():
    whole = _three_kinds()
    w = _draw(SHAPES, 0)
    with pytest.raises(UnknownNameError, match="no weights given for 'a'"):
        whole.project({n: t for n, t in w.items() if n != "a"})
    with pytest.raises(ShapeError, match=r"^a: shape \(5,\)"):
        whole.contains({**w, "a": torch.zeros(5)})
    with pytest.raises(UnknownNameError, match="no weights given for 'a'"):
        whole.check(nn.Linear(2, 2))


@pytest.mark.parametrize("along", [(0, 0, 1, 1), (0, 1, 1, 0), (0, 1, 2, 3)])
def test_what_is_left_of_a_tensor_that_loses_slices_bounds_every_choice_and_is_met_by_whole_units(
    along,
):
    units = max(along) + 1
    for which, keep in (
        (Unstructured(), 9),
        (NOfM(2, 4), 3),
        (NOfM(2, 2), 5),
        (NOfM(3, 4), 3),
        (Filters(), 2),
    ):
        alone = Alone("h", (3, 4), which, keep)
        reads = Coupled(
            sizes=(units,), keep=(units - 1,), members={"u": Along(0, tuple(range(units)))},
            implied={"h": (Along(1, along),)},
        )  # fmt: skip
        whole = Product(parts=(alone, reads), shapes={"u": (units,), "h": (3, 4)})
        most = 0
        for gone in range(units):
            w = {"u": torch.ones(units), "h": torch.rand(3, 4) + 1}
            w["u"][gone] = 0.5
            most = max(most, int(whole.project(w)["h"].count_nonzero()))
        left = alone.left(reads)
        assert most <= left <= 12 * (units - 1) // units
        if alone.whole(reads.alongs("h")):
            assert most == left
    assert Alone("h", (3, 4), NOfM(2, 2), 5).whole([Along(1, along)]) == (along == (0, 0, 1, 1))


# ---- survivors and levels ------------------------------------------------------------------------


MASK = {"w": torch.tensor([[True, False, True], [True, True, False]])}


def test_within_masks_is_the_nearest_point_and_holds_its_zeros_from_the_start():
    within = Within(MASK)
    assert isinstance(within, Constraint)
    w = _draw({"w": (2, 3)}, 3)
    assert torch.equal(within.project(w)["w"], w["w"] * MASK["w"])
    assert torch.equal(within.project(w, _metric({"w": (2, 3)}, 0))["w"], w["w"] * MASK["w"])
    assert within.contains(within.project(w))
    assert not within.contains(w)
    assert within.held == MASK
    assert within.density == 4 / 6
    assert within.opened(0.7) is within
    assert within.implied(MASK, w) == {}


def test_within_refuses_other_models():
    with pytest.raises(UnknownNameError, match="a mask for 'w', which the model does not have"):
        Within(MASK).check(nn.Linear(3, 2))
    with pytest.raises(ShapeError, match=r"^weight: shape \(2, 2\)"):
        Within({"weight": MASK["w"]}).check(nn.Linear(2, 2))
    with pytest.raises(UnknownNameError, match="no weights given for 'w'"):
        Within(MASK).project({})


def _best_on_levels(w, h, half, supports):
    """The least Σ h (w − z)² with z = q·k on one of the supports, by visiting every assignment of levels."""
    best = float("inf")
    levels = [k for k in range(-half, half + 1) if k]
    for support in supports:
        index = support.flatten().nonzero().flatten().tolist()
        rest = float((h * w**2)[support == 0].sum())
        x, weight = w.flatten()[index], h.flatten()[index]
        for k in tuples(levels, repeat=len(index)):
            k = torch.tensor(k, dtype=torch.float64)
            b, c = float((weight * x * k).sum()), float((weight * k * k).sum())
            if b > 0:  # q = b / c
                best = min(best, rest + float((weight * x * x).sum()) - b * b / c)
    return best


@pytest.mark.parametrize("bits", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_survivors_on_levels_are_the_nearest_point_by_brute_force(bits, seed):
    w, h = _draw({"w": (2, 3)}, seed), _metric({"w": (2, 3)}, seed)
    both = OnLevels(Within(MASK), {"w": Levels(bits)})
    z = both.project(w, h)
    assert both.contains(z)
    assert torch.equal(z["w"] != 0, MASK["w"])
    least = _best_on_levels(w["w"], h["w"], 1 << (bits - 1), [MASK["w"].double()])
    assert _distance(z, w, h) == pytest.approx(least, rel=1e-9)
    assert both.opened(0.5) is both
    assert both.held == MASK
    assert both.masks == MASK
    assert (both.bits, both.data_bits) == ({"w": bits}, 4 * bits)
    assert both.steps(z) == {"w": Levels(bits).codes(z["w"])[1]}


@pytest.mark.parametrize("seed", range(3))
def test_pruned_and_on_levels_is_the_nearest_point_of_both_by_brute_force(seed):
    w = _draw({"a": (5,)}, seed)
    h = {"a": torch.ones(5, dtype=torch.float64)}
    inner = Product(parts=(Alone("a", (5,), Unstructured(), 3),), shapes={"a": (5,)})
    both = OnLevels(inner, {"a": Levels(2)})
    z = both.project(w)
    supports = [s for s in _supports((5,)) if int(s.sum()) <= 3]
    least = _best_on_levels(w["a"], h["a"], 2, supports)
    assert _distance(z, w, h) == pytest.approx(least, rel=1e-9)
    assert both.opened(0.5).project(w)["a"].count_nonzero() == 4
    assert not isinstance(both.opened(0.5), OnLevels)
    with pytest.raises(RequestError, match="its survivors depend on the weights"):
        _ = both.data_bits


def test_a_zero_of_the_inner_projection_stays_zero():
    both = OnLevels(Within({"w": torch.ones(3, dtype=torch.bool)}), {"w": Levels(1)})
    assert both.project({"w": torch.tensor([2.0, 0.0, -1.0])})["w"].tolist() == [1.5, 0.0, -1.5]


def test_levels_are_for_what_is_constrained():
    with pytest.raises(UnknownNameError, match="levels for 'x', which is not constrained"):
        OnLevels(Within(MASK), {"x": Levels(1)})
    w = {"w": torch.tensor([[1.0, 0.0, 1.0], [3.0, 1.0, 0.0]])}
    assert not OnLevels(Within(MASK), {"w": Levels(1)}).contains(w)
    outside = {"w": torch.ones(2, 3)}  # on levels, but no survivor
    assert not OnLevels(Within(MASK), {"w": Levels(1)}).contains(outside)
    with pytest.raises(RequestError, match=r"^w: the nonzeros are not on"):
        OnLevels(Within(MASK), {"w": Levels(1)}).steps(w)
