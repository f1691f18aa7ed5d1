"""The field is level: methods differ in nothing but what is said of them."""

import pytest

from espalier.compare import contestants, interval
from espalier.errors import RecipeError, UnknownNameError
from espalier.recipe import validate
from espalier.recipe._running import flat
from espalier.solvers import Constant, Cubic

BASE = {
    "model": "lenet300",
    "data": "digits",
    "plan": {"compression": 10, "allocation": "erk"},
    "solver": {"method": "slr", "cadence": 7, "rho": 0.3, "step": 0.02, "settle": 0.8},
    "training": {"epochs": 3, "seed": 5},
    "compare": {
        "methods": {"slr": {}, "admm": {"rho": 0.05}, "fast": {"method": "admm", "cadence": 2}}
    },
}


def field(content=BASE, **options):
    return contestants("r", validate(content), content, **options)


def test_methods_share_everything_but_the_solver():
    own = [flat(c.recipe.settings()) for c in field()]
    assert len(own) == 3
    differing = {
        key for settings in own for key in settings if len({str(s.get(key)) for s in own}) > 1
    }
    assert {key.split(".")[0] for key in differing} == {"solver"}


def test_the_recipe_carries_over_as_far_as_the_method_has_the_setting():
    slr, admm, fast = (c.recipe.solver.model_dump() for c in field())
    assert (slr["rho"], slr["step"], slr["cadence"], slr["settle"]) == (0.3, 0.02, 7, 0.8)
    assert (admm["rho"], admm["cadence"], admm["settle"]) == (0.05, 7, 0.8)
    assert (fast["rho"], fast["cadence"]) == (0.3, 2)


def test_the_cadence_is_matched_even_if_the_recipe_leaves_it_to_its_default():
    content = {**BASE, "solver": "slr"}
    cadences = {
        c.recipe.solver.model_dump()["cadence"]
        for c in field(content, methods=["slr", "admm", "gradual"])
    }
    assert len(cadences) == 1


def test_published_cadence_is_once_an_epoch_against_once_in_ten():
    cadence = {c.method: c.recipe.solver.model_dump()["cadence"]
               for c in field(methods=["slr", "admm", "gradual"], published_cadence=True)}  # fmt: skip
    assert cadence == {"slr": "epoch", "admm": "10 epochs", "gradual": 7}


def test_seeds_count_up_from_the_recipes():
    names = [c.folder for c in field(methods=["slr", "dense"], seeds=2)]
    assert names == ["slr-seed5", "slr-seed6", "dense-seed5", "dense-seed6"]
    assert [c.recipe.training.seed for c in field(methods=["slr"], seeds=2)] == [5, 6]


def test_dense_prunes_nothing_for_the_same_epochs():
    (dense,) = field(methods=["dense"])
    assert dense.recipe.plan.figures == {"density": 1.0}
    assert dense.recipe.training.epochs == 3


def test_one_shot_is_given_no_schedule_and_gradual_keeps_its_own():
    content = {**BASE, "solver": {"method": "slr", "continuation": "constant", "settle": 0.5}}
    oneshot, gradual = field(content, methods=["oneshot", "gradual"])
    assert set(oneshot.settings) == {"cadence"}
    assert gradual.recipe.solver.model_dump()["continuation"]["method"] == "cubic"


def test_a_method_that_is_no_solver_is_given_nothing_it_does_not_say_it_takes():
    (l0,) = field(methods=["l0"], published_cadence=True)
    assert l0.settings == {}
    assert type(l0.recipe.solver.build()).__name__ == "L0"


def test_a_contest_of_a_recipe_whose_method_is_no_solver_leaves_cadences_alone():
    content = {key: value for key, value in BASE.items() if key != "solver"} | {"method": "l0"}
    l0, slr = field(content, methods=["l0", "slr"])
    assert l0.recipe.solver == validate(content).solver
    assert slr.settings == {}
    assert "method" not in slr.content


def test_opening_in_a_method_of_the_comparison_is_the_recipes_continuation():
    content = {
        **BASE,
        "solver": {"slr": {"opening": {"cubic": {"until": 0.5}}}},
        "compare": {"methods": {"admm": {}, "slow": {"method": "admm", "opening": "constant"}}},
    }
    admm, slow = (c.recipe.solver.build().opening for c in field(content))
    assert (admm, slow) == (Cubic(until=0.5), Constant())


def test_a_class_of_ones_own_competes_by_its_path():
    (own,) = field(methods=["espalier.solvers:ADMM"], published_cadence=True)
    assert (own.method, own.folder) == ("espalier.solvers:ADMM", "espalier.solvers.ADMM-seed5")
    assert (own.settings["cadence"], own.settings["rho"]) == ("10 epochs", 0.3)


def test_several_recipes_do_not_share_folders():
    assert field(methods=["slr"], prefix=True)[0].folder == "r-slr-seed5"


@pytest.mark.parametrize(
    ("methods", "error", "message"),
    [
        (["slr", "admn"], UnknownNameError, "no method 'admn'; did you mean 'admm'"),
        (["slr", "slr"], RecipeError, "asked for twice"),
    ],
)
def test_methods_that_are_none_are_refused(methods, error, message):
    with pytest.raises(error, match=message):
        field(methods=methods)


def test_a_setting_the_method_does_not_have_is_refused():
    content = {**BASE, "compare": {"methods": {"gradual": {"rho": 0.1}}}}
    with pytest.raises(RecipeError, match="rho: unknown key"):
        field(content)


@pytest.mark.parametrize(
    ("values", "mean", "half"),
    [([0.5], 0.5, None), ([1.0, 3.0], 2.0, 12.706), ([1.0, 2.0, 3.0], 2.0, 4.303 / 3**0.5),
     ([0.0, 1.0] * 10, 0.5, 2.093 * 0.512989 / 20**0.5)],
)  # fmt: skip
def test_intervals_are_students(values, mean, half):
    found = interval(values)
    assert found.mean == pytest.approx(mean)
    assert found.half_width == (None if half is None else pytest.approx(half, rel=1e-3))


def test_no_values_have_no_interval():
    assert interval([]) is None
