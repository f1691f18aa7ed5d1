"""A budget in parts that prices move: what it keeps, how it moves, and where it comes to rest."""

import math
from itertools import product

import pytest
import torch

from espalier.budgets import Layer, Shadow, erk
from espalier.errors import RequestError
from espalier.planning import Plan, plan
from espalier.sets import Filters, Levels, NOfM, OnLevels, Priced, Product, Shared, Unstructured
from espalier.sets._priced import priced, with_priced


def of(parts, limit, costs=None, **given):
    costs = costs or dict.fromkeys(parts, 1)
    return Priced(Unstructured(), costs, limit, parts=parts, **given)


def weights(seed=0, sizes=(8, 12)):
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.randn(k, generator=generator) for n, k in zip("ab", sizes, strict=False)}


def test_every_tensor_keeps_its_own_part_whatever_the_others_are_like():
    w = {"a": torch.tensor([1.0, 2.0, 3.0]), "b": 100 * torch.tensor([1.0, 2.0, 3.0])}
    masks = of({"a": 2.0, "b": 1.0}, 3).support(w)
    assert masks["a"].tolist() == [False, True, True]
    assert masks["b"].tolist() == [False, False, True]


@pytest.mark.parametrize("limit", [3, 10, 17])
def test_parts_are_rounded_to_the_whole_budget_and_never_beyond_it(limit):
    for share in (0.1, 0.37, 0.5, 0.83):
        keep = of({"a": share * limit, "b": (1 - share) * limit}, limit).keep
        assert sum(keep.values()) == limit or min(keep.values()) == 1
        assert abs(keep["a"] - share * limit) <= 1
    keep = of({"a": 2.4, "b": 1.2}, 12, costs={"a": 3, "b": 4}).keep
    assert 3 * keep["a"] + 4 * keep["b"] <= 12


def test_a_move_is_one_step_of_exponentiated_gradient_on_the_prices():
    """a: outside its 2 the best is 1²; b: outside its 2 the best is 3². With rate 1/2 a growth takes in one."""
    w = {"a": torch.tensor([5.0, 4.0, 1.0]), "b": torch.tensor([5.0, 4.0, 3.0])}
    moved = of({"a": 2.0, "b": 2.0}, 4, rate=0.5).moved(w)
    up = {"a": 2 * math.exp(0.5 / 9), "b": 2 * math.exp(0.5)}
    whole = sum(up.values())
    assert moved.parts == pytest.approx({n: 4 * b / whole for n, b in up.items()})
    assert moved.limit == 4


def test_prices_are_for_their_cost():
    w = dict.fromkeys("ab", torch.tensor([5.0, 4.0, 3.0, 1.0]))
    moved = of({"a": 2.0, "b": 2.0}, 8, costs={"a": 1, "b": 3}).moved(w)
    assert moved.parts["a"] > 2.0 > moved.parts["b"]
    assert moved.parts["a"] + 3 * moved.parts["b"] == pytest.approx(8.0)


def test_equal_prices_move_nothing_and_no_prices_either():
    w = {"a": torch.tensor([5.0, 3.0]), "b": torch.tensor([4.0, 3.0])}
    one = of({"a": 1.0, "b": 1.0}, 2)
    assert one.moved(w).parts == pytest.approx(one.parts)
    assert one.moved({n: torch.zeros(2) for n in w}) is one


def test_by_energies_it_comes_to_rest_where_a_shared_budget_is():
    """The limit of many moves keeps the units that compete for one budget would: the largest of all."""
    for seed in range(5):
        w = weights(seed)
        one = of({"a": 5.0, "b": 5.0}, 10, rate=0.3, by="energies")
        for step in range(300):
            one = Priced(
                one.set, one.costs, 10, 1, one.parts, 0.3 / (1 + 0.1 * step), one.by
            ).moved(w)
        best = Shared(Unstructured(), one.costs, 10).support(w)
        assert all(abs(one.keep[n] - int(best[n].sum())) <= 1 for n in w)


def test_the_whole_budget_is_spent_and_every_part_is_within_its_bounds():
    for a, b in product((1e-6, 0.3, 5.0, 1e6), repeat=2):
        made = of({"a": 1.0, "b": 1.0}, 9).scaled({"a": a, "b": b}, {"a": 6, "b": 8})
        assert sum(made.parts.values()) == pytest.approx(9)
        assert 1 <= made.parts["a"] <= 6
        assert 1 <= made.parts["b"] <= 8


def test_weights_are_inside_when_the_whole_is_within_the_budget_whatever_the_parts():
    one = of({"a": 1.0, "b": 3.0}, 4)
    w = {"a": torch.tensor([1.0, 1.0, 1.0]), "b": torch.tensor([1.0, 0.0, 0.0])}
    assert one.contains(w)
    assert not one.contains({"a": w["a"], "b": torch.ones(3)})


def test_opened_it_is_dense_and_closed_it_is_itself():
    one = of({"a": 2.0, "b": 3.0}, 5)
    shapes = {"a": (8,), "b": (12,)}
    assert one.opened(0.0, shapes) == one
    assert one.opened(1.0, shapes).keep == {"a": 8, "b": 12}
    assert one.opened(0.5, shapes).keep == {"a": 5, "b": 7}


def test_a_plan_with_moving_parts_is_saved_and_read_back(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.Linear(6, 4))
    made = plan(model, density=0.25, allocation=Shadow(rate=0.2, by="energies", start=erk))
    made.save(tmp_path / "plan.yaml")
    back = Plan.load(tmp_path / "plan.yaml")
    assert back.parts == made.parts
    assert priced(back) == made.parts[0]
    assert sum(made.parts[0].keep.values()) == 18


def test_the_parts_of_a_plan_are_moved_inside_products_and_levels():
    w = weights()
    one = of({"a": 5.0, "b": 5.0}, 10)
    whole = Product(parts=(one,), shapes={"a": (8,), "b": (12,)})
    other = one.scaled({"a": 2.0, "b": 8.0}, {"a": 8, "b": 12})
    for constraint in (whole, OnLevels(whole, {"a": Levels(2)})):
        assert priced(constraint) == one
        found = with_priced(constraint, other)
        assert {n: int(m.sum()) for n, m in found.support(w).items()} == {"a": 2, "b": 8}
    assert priced(Product(parts=(), shapes={})) is None


def test_multiply_accumulates_are_a_currency_too():
    x = torch.zeros(1, 1, 8, 8)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 3), torch.nn.Flatten(), torch.nn.Linear(216, 4)
    )
    made = plan(model, macs=0.5, example_input=x, allocation=Shadow(rate=0.1))
    (part,) = made.parts
    assert part.costs == {"0.weight": 36, "2.weight": 1}
    spent = sum(part.costs[n] * b for n, b in part.parts.items())
    assert spent == pytest.approx(part.limit)


@pytest.mark.parametrize("which", [Filters(), NOfM(2, 4)], ids=lambda s: s.name)
def test_units_of_every_set_move(which):
    layers = {n: Layer(shape=(8, 8), set=which) for n in "ab"}
    one = Shadow(rate=0.2, by="energies")(layers, 0.25)
    w = {"a": torch.ones(8, 8), "b": 0.1 * torch.ones(8, 8)}
    moved = one.moved(w)
    assert moved.parts["a"] > one.parts["a"]
    assert moved.contains(moved.project(w))


@pytest.mark.parametrize("wrong", [{"rate": 0.0}, {"rate": math.nan}, {"parts": {"c": 1.0}}])
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(RequestError):
        Priced(Unstructured(), {"a": 1}, 1, **{"parts": {"a": 1.0}, **wrong})
