import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espalier import budgets
from espalier.budgets import Layer
from espalier.budgets._patterns import assign
from espalier.errors import BudgetError, NonFiniteError, UnknownNameError
from espalier.sets import Blocks, Filters, FiltersAndColumns, NOfM, Unstructured

LENET = {"conv1": (20, 1, 5, 5), "conv2": (50, 20, 5, 5), "fc1": (500, 800), "fc2": (10, 500)}
MACS = {"conv1": 288_000, "conv2": 1_600_000, "fc1": 400_000, "fc2": 5_000}


def _layers(shapes=LENET, which=None, macs=None, seed=0):
    g = torch.Generator().manual_seed(seed)
    return {
        name: Layer(
            shape=shape,
            set=which or Unstructured(),
            macs=None if macs is None else macs[name],
            weight=torch.randn(shape, generator=g),
        )
        for name, shape in shapes.items()
    }


def _total(layers, keeps):
    return sum(layers[name].nonzeros(keep) for name, keep in keeps.items())


_dims = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 3), st.integers(1, 3))
_shapes = st.lists(_dims, min_size=1, max_size=6).map(
    lambda shapes: {f"w{i}": shape for i, shape in enumerate(shapes)}
)


def test_uniform_rounds_each_tensor_and_nothing_else():
    assert budgets.uniform(_layers(), 0.1) == {"conv1": 50, "conv2": 2500, "fc1": 40000, "fc2": 500}
    assert budgets.uniform(_layers(which=Filters()), 0.26) == {
        "conv1": 5,
        "conv2": 13,
        "fc1": 130,
        "fc2": 3,
    }


def test_uniform_refuses_less_than_half_a_unit_and_says_what_is_feasible():
    with pytest.raises(
        BudgetError, match=r"^fc2: density=0.04 .* its 10 filters; .*\[0\.05\d*, 1\]"
    ):
        budgets.uniform(_layers(which=Filters()), 0.04)
    assert budgets.uniform(_layers(which=Filters()), 0.051)["fc2"] == 1


def test_density_is_an_upper_bound_for_sets_that_are_sparse_anyway():
    layers = _layers({"fc": (8, 16)}, NOfM(2, 4))
    for rule in (budgets.uniform, budgets.erk, budgets.global_magnitude):
        assert rule(layers, 0.9) == {"fc": 32}


@pytest.mark.parametrize("density", [0.0, -0.1, 1.1, float("nan")])
@pytest.mark.parametrize("rule", ["uniform", "erk", "global_magnitude", "shared"])
def test_a_density_is_a_fraction_above_zero(rule, density):
    with pytest.raises(BudgetError, match=r"give a fraction in \(0, 1\]"):
        getattr(budgets, rule)(_layers(), density)
    with pytest.raises(BudgetError, match="no tensors"):
        getattr(budgets, rule)({}, 0.5)


def test_erk_by_hand_with_two_tensors_held_dense():
    """Sums of dimensions 11, 23, 140, 200 (374); half of 36 + 144 + 4,000 + 10,000 is 7,090.

    Round 1: ε = 7,090 / 374 = 18.96 gives 209, 436, 2,654, 3,791: the first two are held at 36, 144.
    Round 2: ε = (7,090 − 180) / 340 = 20.32 gives 2,845.3 and 4,064.7.
    """
    shapes = {"a": (4, 1, 3, 3), "b": (16, 1, 3, 3), "c": (40, 100), "d": (100, 100)}
    assert budgets.erk(_layers(shapes), 0.5) == {"a": 36, "b": 144, "c": 2845, "d": 4065}


def test_erk_holds_in_rounds_what_only_the_freed_budget_pushes_over():
    """x (sum 4) is held at 4 first; y (sum 9) fits at ε = 2.215 and not at 2.27."""
    shapes = {"x": (2, 2), "y": (4, 5), "z": (40, 40)}
    # asked 0.127 · 1,624 = 206; ε = 206 / 93 = 2.215 gives x 8.9 and y 19.9, which fits 20;
    # then (206 − 4) / 89 = 2.27 gives y 20.4, held; z takes the rest
    assert budgets.erk(_layers(shapes), 0.127) == {"x": 4, "y": 20, "z": 182}


def test_erk_on_lenet_by_hand():
    """Sums 31, 80, 1,300, 510; asked 21,525: fc2 held at 5,000, then ε = 16,525 / 1,411 = 11.71."""
    keeps = budgets.erk(_layers(), 0.05)
    assert keeps == {"conv1": 363, "conv2": 937, "fc1": 15_225, "fc2": 5_000}
    assert sum(keeps.values()) == 21_525 == round(0.05 * 430_500)


@given(_shapes, st.floats(0.01, 1.0))
@settings(max_examples=200, deadline=None)
def test_totals_of_weights_are_exact(shapes, density):
    layers = _layers(shapes)
    asked = round(density * sum(layer.numel for layer in layers.values()))
    for rule in (budgets.erk, budgets.global_magnitude):
        if asked < len(layers):
            with pytest.raises(BudgetError, match="one unit of every tensor"):
                rule(layers, density)
            continue
        keeps = rule(layers, density)
        assert sum(keeps.values()) == asked
        assert all(1 <= keep <= layers[name].numel for name, keep in keeps.items())


@given(_shapes, st.floats(0.1, 1.0))
@settings(max_examples=100, deadline=None)
def test_totals_of_larger_units_are_within_half_a_unit(shapes, density):
    layers = _layers(shapes, Filters())
    asked = round(density * sum(layer.numel for layer in layers.values()))
    sizes = [layer.numel // layer.shape[0] for layer in layers.values()]
    if asked < sum(sizes):
        return
    keeps = budgets.erk(layers, density)
    assert 2 * abs(_total(layers, keeps) - asked) <= max(sizes)
    assert all(1 <= keep <= layers[name].shape[0] for name, keep in keeps.items())


def test_the_feasible_range_that_an_error_names_is_feasible():
    layers = _layers({"a": (1, 3, 3, 3), "b": (7, 7)}, Filters())
    with pytest.raises(BudgetError, match=r"a: 27.*density in \[0\.4\d+, 1\]") as error:
        budgets.erk(layers, 0.1)
    lowest = float(str(error.value).partition("[")[2].partition(",")[0])
    assert budgets.erk(layers, lowest) == {"a": 1, "b": 1}


def test_global_magnitude_is_a_count_of_the_largest():
    layers = _layers(seed=3)
    with torch.no_grad():
        layers["fc1"].weight.mul_(0.1)
    everything = torch.cat([layer.weight.abs().flatten() for layer in layers.values()])
    threshold = everything.sort(descending=True).values[round(0.1 * len(everything)) - 1]
    expected = {n: int((layer.weight.abs() >= threshold).sum()) for n, layer in layers.items()}
    assert budgets.global_magnitude(layers, 0.1) == expected


def test_global_magnitude_keeps_a_unit_of_everything():
    layers = _layers()
    layers["fc2"].weight.mul_(1e-6)
    assert budgets.global_magnitude(layers, 0.1)["fc2"] == 1


def test_ranking_needs_values():
    bare = {"w": Layer(shape=(4, 4), set=Unstructured())}
    with pytest.raises(BudgetError, match=r"^w: no values to rank"):
        budgets.global_magnitude(bare, 0.5)
    bad = {"w": Layer(shape=(2,), set=Unstructured(), weight=torch.tensor([1.0, torch.nan]))}
    with pytest.raises(NonFiniteError):
        budgets.global_magnitude(bad, 0.5)


def test_units_of_different_sets_do_not_compete():
    layers = _layers({"a": (4, 4)}) | _layers({"b": (4, 4)}, Filters())
    with pytest.raises(BudgetError, match=r"^b has Filters\(\) and a has Unstructured\(\)"):
        budgets.shared(layers, 0.5)
    with pytest.raises(BudgetError, match=r"^a: the keep of .* no single count"):
        budgets.shared_macs(_layers({"a": (4, 4)}, FiltersAndColumns(), {"a": 16}), 8)


def test_explicit_keeps_are_counts_densities_or_pairs():
    layers = _layers()
    keeps = budgets.explicit(layers, {"fc*": 0.07, "fc1": 3_600, "conv2": 0, "*": 1.0})
    assert keeps == {"conv1": 500, "conv2": 0, "fc1": 3_600, "fc2": 350}
    pair = _layers({"w": (4, 6)}, FiltersAndColumns())
    assert budgets.explicit(pair, {"w": (2, 3)}) == {"w": (2, 3)}


@pytest.mark.parametrize(
    ("which", "keep", "message"),
    [
        (Unstructured(), 501, r"^conv1: keep=501 but it has 500 weights; give 0 <= keep <= 500"),
        (Filters(), 21, r"^conv1: keep=21 but it has 20 filters"),
        (Filters(), -1, r"^conv1: keep=-1"),
        (Filters(), True, r"^conv1: keep=True"),
        (Filters(), (1, 2), r"^conv1: keep=\(1, 2\)"),
        (Filters(), "3", r"^conv1: keep='3'"),
        (FiltersAndColumns(), 3, r"^conv1: keep=3 .*\(filters, columns\) up to \(20, 25\)"),
        (FiltersAndColumns(), (3, 26), r"^conv1: keep=\(3, 26\)"),
        (Filters(), 1.5, r"^conv1: density=1.5; give a fraction"),
        (Filters(), 0.0, r"^conv1: density=0.0"),
        (Filters(), 0.01, r"^conv1: density=0.01 is less than half"),
    ],
)
def test_impossible_keeps_name_the_tensor_and_the_range(which, keep, message):
    with pytest.raises(BudgetError, match=message):
        budgets.explicit(_layers(which=which), {"conv1": keep})


def test_a_pattern_that_matches_nothing_suggests_the_nearest():
    with pytest.raises(
        UnknownNameError, match=r"keep: no parameter is called 'conv3'; did you mean"
    ):
        budgets.explicit(_layers(), {"conv3": 1})
    with pytest.raises(UnknownNameError, match=r"matches the pattern 'fcc\*'; did you mean 'fc"):
        budgets.explicit(_layers(), {"fcc*": 1})
    many = {f"layer{i}.weight": (2, 2) for i in range(40)}
    with pytest.raises(UnknownNameError, match=r"did you mean 'layer7.weight'.* The 40 names") as e:
        budgets.explicit(_layers(many), {"layr7.weight": 1})
    assert len(str(e.value)) < 200


def test_full_names_win_over_globs_and_the_first_glob_over_the_rest():
    names = ["a.w", "b.w", "c.x"]
    assert assign({"a*": 1, "*.w": 2, "*": 3, "b.w": 4}, names, "set") == {
        "a.w": 1,
        "b.w": 4,
        "c.x": 3,
    }


@given(st.floats(0.01, 1.0), st.sampled_from([Unstructured(), Filters()]), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_macs_come_within_one_unit_of_the_limit(fraction, which, fixed):
    layers = _layers(which=which, macs=MACS)
    limit = int(fraction * 2_293_000)
    floor = sum(layer.macs_at(1) for layer in layers.values())
    for rule in (budgets.uniform, budgets.erk):
        if limit < floor:
            with pytest.raises(BudgetError, match="cannot be met"):
                budgets.for_macs(layers, limit + fixed, fixed=fixed, rule=rule)
            continue
        keeps = budgets.for_macs(layers, limit + fixed, fixed=fixed, rule=rule)
        left = sum(layers[name].macs_at(keep) for name, keep in keeps.items())
        assert left <= limit
        for name, keep in keeps.items():
            if keep < layers[name].most:
                more = layers[name].macs_at(keep + 1) - layers[name].macs_at(keep)
                assert left + more > limit


def test_macs_by_uniform_density_are_nearly_uniform():
    layers = _layers(macs=MACS)
    keeps = budgets.for_macs(layers, int(0.37 * 2_293_000))
    for name, keep in keeps.items():
        assert keep / layers[name].numel == pytest.approx(0.37, abs=1 / layers[name].shape[0])


def test_macs_that_cannot_be_met_name_the_dearest_and_the_range():
    layers = _layers(which=Filters(), macs=MACS)
    with pytest.raises(
        BudgetError, match=r"macs=1,000 .*conv2: 32,000\); give 47,700 <= macs <= 2,293,000"
    ):
        budgets.for_macs(layers, 1_000)
    with pytest.raises(BudgetError, match=r"give 47,700 <= macs <= 2,293,000"):
        budgets.shared_macs(layers, 1_000)
    assert budgets.for_macs(layers, 47_700) == dict.fromkeys(LENET, 1)
    for rule in (budgets.for_macs, budgets.shared_macs):
        with pytest.raises(
            BudgetError, match=r"^conv1: its MACs are not known; give example_input="
        ):
            rule(_layers(), 10**6)
        with pytest.raises(BudgetError, match="no tensors"):
            rule({}, 10)


def test_shared_budgets_cost_weights_or_macs():
    layers = _layers({"a": (4, 2, 3, 3), "b": (5, 4)}, Filters(), {"a": 7200, "b": 20})
    by_weight = budgets.shared(layers, 0.5)
    assert (by_weight.costs, by_weight.limit) == ({"a": 18, "b": 4}, 46)
    by_macs = budgets.shared_macs(layers, 4_000, fixed=100)
    assert (by_macs.costs, by_macs.limit) == ({"a": 1800, "b": 4}, 3_900)
    nm = _layers({"a": (4, 8)}, NOfM(1, 4))
    assert budgets.shared(nm, 0.125).costs == {"a": 1}
    assert budgets.shared(_layers({"a": (4, 8)}, Blocks(2, 2)), 0.5).costs == {"a": 4}
