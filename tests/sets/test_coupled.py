"""Units that run through several tensors: the nearest point, counted and enumerated."""

from itertools import combinations, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espalier.errors import BudgetError, NonFiniteError, RequestError, ShapeError
from espalier.sets import Along, Coupled, Filters, FiltersAndColumns


def _stage(keep=(2, 1)):
    """A residual stage of 3 filters, tied in two layers, with a bias, and an inner layer of 2."""
    stage, inner = (0, 1, 2), (3, 4)
    return Coupled(
        sizes=(3, 2),
        keep=keep,
        members={
            "a.weight": Along(0, stage),
            "a.bias": Along(0, stage),
            "b.weight": Along(0, inner),
            "c.weight": Along(0, stage),
        },
        implied={"b.weight": (Along(1, stage),), "c.weight": (Along(1, inner),)},
    )


def _weights(seed=0):
    draw = torch.Generator().manual_seed(seed)
    shapes = {"a.weight": (3, 2), "a.bias": (3,), "b.weight": (2, 3), "c.weight": (3, 2)}
    return {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}


def _distance(z, w, h=None):
    return sum(
        float(((z[n] - w[n]).double().square() * (1 if h is None else h[n])).sum()) for n in z
    )


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), keep=st.tuples(st.integers(0, 3), st.integers(0, 2)))
def test_it_is_the_nearest_point_of_all_choices(seed, keep):
    coupled, w = _stage(keep), _weights(seed)
    h = {name: torch.rand_like(v) for name, v in w.items()}
    z = coupled.project(w, h)
    assert coupled.contains(z)
    choices = product(combinations(range(3), keep[0]), combinations(range(3, 5), keep[1]))
    best = min(
        _distance(
            {
                n: v
                * torch.tensor([u in stage + inner for u in coupled.members[n].units]).reshape(
                    -1, *[1] * (v.dim() - 1)
                )
                for n, v in w.items()
            },
            w,
            h,
        )
        for stage, inner in choices
    )
    assert _distance(z, w, h) == pytest.approx(best, rel=1e-6, abs=1e-9)


def test_tied_filters_share_one_choice_that_no_tensor_would_make_alone():
    coupled = Coupled(sizes=(2,), keep=(1,), members={"a": Along(0, (0, 1)), "b": Along(0, (0, 1))})
    w = {"a": torch.tensor([[3.0], [2.0]]), "b": torch.tensor([[1.0], [2.5]])}  # 10 and 10.25
    assert {n: m.flatten().tolist() for n, m in coupled.support(w).items()} == {
        "a": [False, True],
        "b": [False, True],
    }


def test_one_tensor_alone_is_filters():
    w = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    alone = Coupled(sizes=(6,), keep=(4,), members={"w": Along(0, tuple(range(6)))})
    assert torch.equal(alone.project({"w": w})["w"], Filters().project(w, 4))


def test_columns_never_retain_less_than_filters_first_and_are_in_the_set():
    for seed in range(20):
        w = torch.randn(5, 6, generator=torch.Generator().manual_seed(seed))
        both = Coupled(
            sizes=(5,), keep=(2,), members={"w": Along(0, tuple(range(5)))}, columns={"w": 3}
        )
        z = both.project({"w": w})["w"]
        assert FiltersAndColumns().contains(z, (2, 3))
        rows = w.square().sum(1).topk(2).indices
        greedy = w[rows].square().sum(0).topk(3).values.sum()
        best = FiltersAndColumns().project(w, (2, 3)).square().sum()
        assert greedy - 1e-5 <= z.square().sum() <= best + 1e-5


@pytest.mark.parametrize("columns", [1, 2])
def test_no_column_reads_a_filter_that_goes_even_if_more_might_stay(columns):
    coupled = Coupled(
        sizes=(2, 2),
        keep=(1, 2),
        members={"first": Along(0, (0, 1)), "second": Along(0, (2, 3))},
        implied={"second": (Along(1, (0, 1)),)},
        columns={"second": columns},
    )
    w = {"first": torch.tensor([[1.0], [2.0]]), "second": torch.tensor([[9.0, 1.0], [9.0, 1.0]])}
    assert coupled.project(w)["second"].tolist() == [[0.0, 1.0], [0.0, 1.0]]


def test_what_is_implied_goes_with_its_unit_and_stays_with_it():
    coupled, w = _stage(), _weights(3)
    masks = coupled.support(w)
    implied = coupled.implied_masks(masks, {n: v.shape for n, v in w.items()})
    for name, line in (("b.weight", "a.bias"), ("c.weight", "b.weight")):
        alive = masks[line].reshape(masks[line].shape[0], -1).any(1)
        assert implied[name].tolist() == alive.expand(w[name].shape).tolist()


def test_counts_are_those_of_the_masks():
    coupled, w = _stage(), _weights(4)
    masks = coupled.support(w)
    shapes = {n: v.shape for n, v in w.items()}
    masks |= {n: m & masks[n] for n, m in coupled.implied_masks(masks, shapes).items()}
    assert {n: int(m.sum()) for n, m in masks.items()} == {
        n: coupled.left(n, tuple(v.shape)) for n, v in w.items()
    }


def test_opening_goes_from_the_keep_to_everything():
    coupled = Coupled(
        sizes=(10,), keep=(2,), members={"w": Along(0, tuple(range(10)))}, columns={"w": 4}
    )
    shapes = {"w": (10, 3, 2, 2)}
    assert coupled.opened(0.0, shapes) == coupled
    half, full = coupled.opened(0.5, shapes), coupled.opened(1.0, shapes)
    assert (half.keep, half.columns, full.keep, full.columns) == ((6,), {"w": 8}, (10,), {"w": 12})


def test_an_index_of_no_unit_stays():
    coupled = Coupled(sizes=(2,), keep=(0,), members={"w": Along(0, (0, -1, 1))})
    assert coupled.project({"w": torch.ones(3)})["w"].tolist() == [0.0, 1.0, 0.0]
    assert coupled.left("w", (3, 4)) == 4


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"keep": (3,)}, BudgetError, "keep=3 of a group of 2 units; give 0 to 2"),
        ({"keep": (1, 1)}, BudgetError, "2 keeps for 1 groups"),
        ({"members": {"w": Along(0, (0, 2))}}, RequestError, "w: a unit outside 0 … 1"),
        ({"columns": {"v": 1}}, RequestError, "v: columns of what is no member along axis 0"),
    ],
)
def test_impossible_units_are_refused(change, error, words):
    arguments = {"sizes": (2,), "keep": (1,), "members": {"w": Along(0, (0, 1))}} | change
    with pytest.raises(error, match=words):
        Coupled(**arguments)


def test_bad_weights_are_refused_by_name():
    coupled = Coupled(sizes=(2,), keep=(1,), members={"w": Along(0, (0, 1))}, columns={"w": 3})
    with pytest.raises(ShapeError, match=r"w: shape \(3, 1\) but 2 indices along axis 0"):
        coupled.project({"w": torch.ones(3, 1)})
    with pytest.raises(BudgetError, match="w: keep=3 of 2 columns"):
        coupled.project({"w": torch.ones(2, 2)})
    with pytest.raises(NonFiniteError):
        coupled.project({"w": torch.full((2, 3), torch.nan)})
