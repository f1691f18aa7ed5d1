"""Recipes: one source of truth with the solvers, forms of writing, messages."""

import dataclasses
import inspect

import pytest
import yaml

from espalier import metrics, sets, solvers
from espalier.errors import RecipeError
from espalier.methods import Constrained, GradualFreezing, HoldFromStart, KeepZeros, Method
from espalier.recipe import SOLVERS, _yaml, load, override, validate
from espalier.recipe import _building as building
from espalier.recipe._building import make_model, make_plan, make_stages, make_task
from espalier.recipe._methods import (
    CONTINUATIONS,
    METRICS,
    OPTIMISERS,
    RHO_SCHEDULES,
    SCHEDULES,
    SETS,
)
from espalier.recipe._paths import expanded
from espalier.runs import Planned, Procedure, Rewind

GOOD = {"model": "lenet5", "data": "digits", "plan": {"density": 0.1}, "training": {"epochs": 2}}


def with_solver(solver) -> dict:
    return {**GOOD, "solver": solver}


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_by_its_name_alone_is_the_dataclass_with_its_own_defaults(name):
    target = SOLVERS[name].target
    built = validate(with_solver(name)).solver.build()
    assert built == (
        Constrained(solver=target()) if issubclass(target, solvers.Solver) else target()
    )


FAMILIES = [*SOLVERS.items(), *METRICS.items(), *CONTINUATIONS.items(), *RHO_SCHEDULES.items(), *SETS.items(),
            *OPTIMISERS.items(), *SCHEDULES.items()]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "section"), FAMILIES, ids=[f"{n}-{s.__name__}" for n, s in FAMILIES]
)
def test_every_field_of_the_dataclass_and_no_other_can_be_set(name, section):
    fields = {field.name for field in dataclasses.fields(section.target)}
    if issubclass(section.target, solvers.Solver):
        around = {field.name for field in dataclasses.fields(Constrained)}
        fields |= around - {"solver", "opening"} | {"continuation"}
    assert set(section.model_fields) == fields | {"method"}


def test_every_concrete_class_of_a_family_has_a_section():
    def leaves(base):
        return {leaf for cls in base.__subclasses__() for leaf in ({cls} | leaves(cls))}

    def ours(base):
        return {
            cls
            for cls in leaves(base)
            if cls.__module__.startswith("espalier.") and not inspect.isabstract(cls)
        }

    def targets(sections):
        return {section.target for section in sections.values()}

    unnamed = {Constrained, GradualFreezing, HoldFromStart, KeepZeros}
    assert ours(solvers.Solver) | ours(Method) | ours(Procedure) == targets(SOLVERS) | unnamed
    assert ours(metrics.Metric) == targets(METRICS)
    assert ours(solvers.Schedule) == targets(CONTINUATIONS)
    assert ours(solvers.RhoSchedule) == targets(RHO_SCHEDULES)
    assert ours(sets.Set) == targets(SETS)


@pytest.mark.parametrize(
    "written", [{"method": "admm", "rho": 0.3, "metric": {"method": "fisher", "beta": 0.9}},
                {"admm": {"rho": 0.3, "metric": {"fisher": {"beta": 0.9}}}}],
)  # fmt: skip
def test_settings_stand_beside_the_name_or_below_it(written):
    built = validate(with_solver(written)).solver.build()
    assert built == Constrained(solver=solvers.ADMM(rho=0.3), metric=metrics.Fisher(beta=0.9))


def test_the_resolved_settings_say_the_same_recipe():
    recipe = validate(with_solver({"slr": {"continuation": "constant", "cadence": "10 epochs"}}))
    assert validate(recipe.settings()) == recipe
    assert validate(yaml.safe_load(yaml.safe_dump(recipe.settings()))) == recipe


def test_a_phase_is_as_training_but_for_what_it_says():
    recipe = validate(
        {
            **GOOD,
            "training": {"epochs": 2, "lr": 0.5, "clip": 1.0},
            "retrain": {"epochs": 7, "lr": 0.1},
        }
    )
    phase = recipe.training.of(recipe.retrain)
    assert (phase.epochs, phase.lr, phase.clip) == (7, 0.1, 1.0)


def test_yaml_has_no_traps():
    read = _yaml.parse("{a: 1e-3, b: off, c: 1_000, d: .inf, e: true, f: 5e-4, g: -1.5}", "x")
    assert read == {
        "a": 0.001,
        "b": "off",
        "c": 1000,
        "d": float("inf"),
        "e": True,
        "f": 0.0005,
        "g": -1.5,
    }


def test_set_reaches_into_names_and_parameter_names():
    assert override({"solver": {"slr": {"rho": 1.0}}}, "solver.rho=2") == {
        "solver": {"slr": {"rho": 2}}
    }
    assert override({"model": "lenet5"}, "model.weights=w") == {
        "model": {"name": "lenet5", "weights": "w"}
    }
    assert override({"plan": {"keep": {}}}, "plan.keep.fc1.weight=5") == {
        "plan": {"keep": {"fc1.weight": 5}}
    }
    content = {"training": {"epochs": 1}}
    assert override(content, "training.schedule={step: {every: 2}}")["training"]["schedule"] == {
        "step": {"every": 2}
    }
    assert content == {"training": {"epochs": 1}}


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        ({"method": "slr", "M": 1}, "solver.M: 1 should be greater than 1"),
        ({"slr": {"rho": 0}}, "solver.slr.rho: 0 should be greater than 0"),
        ({"method": "slr", "settle": 1.5}, "solver.settle: 1.5 should be less than or equal to 1"),
        ({"method": "slr", "cadence": True}, "solver.cadence: True is neither"),
        ({"method": "slr", "cadence": "epochs"}, "solver.cadence: 'epochs' is neither"),
        ({"method": "slr", "decoupled": 1}, "solver.decoupled: 1 should be a valid boolean"),
        (
            {"method": "slr", "metric": {"fisher": {"beta": 1.0}}},
            "solver.metric.fisher.beta: 1.0 should be less",
        ),
        ({"rho": 1.0}, "solver: needs a method; Allowed: admm"),
        (3, "solver: needs a method"),
    ],
)
def test_a_solver_out_of_range_is_refused_with_its_place(solver, message):
    with pytest.raises(RecipeError) as caught:
        validate(with_solver(solver), "r.yaml")
    assert f"r.yaml: {message}" in str(caught.value)


def test_paths_are_expanded_and_an_unset_variable_is_told(monkeypatch):
    monkeypatch.setenv("PLACE", "/x")
    assert str(expanded("${PLACE}/y")) == "/x/y"
    monkeypatch.delenv("PLACE")
    with pytest.raises(RecipeError, match="PLACE is not set"):
        expanded("${PLACE}/y")


def test_a_setting_on_the_command_line_wins(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(GOOD))
    recipe, content = load(path, ["training.lr=1e-2", "training.epochs=5"])
    assert (recipe.training.lr, recipe.training.epochs) == (0.01, 5)
    assert content["training"] == {"epochs": 5, "lr": 0.01}


def test_a_quantise_section_becomes_what_the_run_takes():
    content = {
        "model": "lenet5", "data": "digits", "plan": {"density": 0.1}, "training": {"epochs": 2},
        "quantise": {
            "bits": {"*": 3, "conv1.weight": 4}, "epochs": 2, "lr": 5e-4,
            "solver": {"admm": {"rho": 0.2, "cadence": "epoch"}},
            "freeze": {"epochs": 3, "rounds": 5},
        },
    }  # fmt: skip
    made = building.make_quantise(validate(content), steps_per_epoch=11)
    assert made.bits == {"*": 3, "conv1.weight": 4}
    assert made.method.solver == solvers.ADMM(rho=0.2)
    assert (made.method.cadence, made.method.settle) == (11, None)
    assert made.method.opening == solvers.Constant()
    assert (made.training.epochs, made.training.lr) == (2, 5e-4)
    assert (made.freeze.training.epochs, made.freeze.method.rounds) == (3, 5)
    assert made.freeze.method.fraction == 0.3
    searched = {**content, "quantise": {"epochs": 0, "search": {"guard": 0.01}}}
    made = building.make_quantise(validate(searched), steps_per_epoch=11)
    assert (made.bits.guard, made.bits.low, made.bits.high, made.freeze) == (0.01, 1, 8, None)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"epochs": 1}, "exactly one of bits, search; got neither"),
        ({"epochs": 1, "bits": 2, "search": {}}, "got both"),
        ({"epochs": 1, "bits": 0}, "quantise.bits"),
        ({"epochs": 1, "bits": 2, "freez": {}}, "did you mean 'freeze'"),
    ],
)
def test_a_quantise_section_that_says_nothing_clear_is_refused(section, message):
    content = {"model": "lenet5", "data": "digits", "plan": {"density": 0.1},
               "training": {"epochs": 2}, "quantise": section}  # fmt: skip
    with pytest.raises(RecipeError, match=message):
        validate(content)


@pytest.mark.parametrize("key", ["continuation", "opening"])
def test_opening_is_another_word_for_continuation(key):
    written = {"method": "slr", key: {"cubic": {"until": 0.5}}, "metric": "adam", "decoupled": True,
               "settle": None, "cadence": 3, "rho": 0.2}  # fmt: skip
    recipe = validate(with_solver(written))
    assert recipe.solver.build() == Constrained(
        solver=solvers.SLR(rho=0.2), cadence=3, opening=solvers.Cubic(0.5), settle=None,
        metric=metrics.AdamMoment(), decoupled=True,
    )  # fmt: skip
    assert recipe.settings()["solver"]["continuation"] == {"method": "cubic", "until": 0.5}
    assert "opening" not in recipe.settings()["solver"]


def test_method_is_another_word_for_solver():
    assert validate({**GOOD, "method": "admm"}) == validate(with_solver("admm"))
    assert override({"method": "admm"}, "solver.rho=2") == {"method": {"method": "admm", "rho": 2}}
    assert override({"solver": "admm"}, "method.rho=2") == {"solver": {"method": "admm", "rho": 2}}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"solver": "slr", "method": "slr"}, "solver and method are two words for one thing"),
        (
            {"solver": {"slr": {"opening": "cubic", "continuation": "cubic"}}},
            "solver.slr: continuation and opening are two words for one thing",
        ),
    ],
)
def test_two_words_for_one_thing_are_not_given_at_once(more, message):
    with pytest.raises(RecipeError) as caught:
        validate({**GOOD, **more})
    assert message in str(caught.value)


def test_one_shot_neither_opens_nor_settles_unless_it_is_said():
    assert validate(with_solver("oneshot")).solver.build() == Constrained(
        solver=solvers.OneShot(), opening=solvers.Constant(), settle=None
    )
    said = validate(with_solver({"oneshot": {"settle": 0.9}})).solver.build()
    assert (said.settle, said.opening) == (0.9, solvers.Constant())


def test_what_the_object_refuses_the_recipe_refuses_at_its_place():
    content = {**GOOD, "plan": {"density": 0.1, "set": {"n_of_m": {"n": 5, "m": 4}}}}
    with pytest.raises(RecipeError, match=r"plan\.set\.n_of_m: n_of_m: n=5, m=4; give 1 <= n <= m"):
        validate(content)


def test_a_default_of_the_recipe_is_a_default_of_the_dataclass():
    """The whole of a section with nothing said, dumped and read again, is the same section."""
    for name in SOLVERS:
        recipe = validate(with_solver(name))
        assert validate(recipe.settings()) == recipe


OLD = {
    "slr": {"rho": 0.1, "step": 0.01, "M": 300.0, "r": 0.1, "printed_steps": False},
    "slr_released": {"rho": 0.1, "step": 0.01, "M": 300.0, "r": 0.1, "printed_steps": False},
    "admm": {"rho": 0.1, "rho_schedule": {"method": "constant"}},
    "penalty": {"rho": 0.1, "rho_schedule": {"method": "constant"}},
    "gradual": {},
    "oneshot": {},
}
CUBIC = {"continuation": {"method": "cubic", "until": 0.35}, "settle": 0.45}
CONSTANT = {"continuation": {"method": "constant"}, "settle": None}


@pytest.mark.parametrize("name", OLD)
def test_a_run_folder_of_version_0_1_is_read_and_a_dump_is_as_it_was(name):
    opening = CONSTANT if name in ("slr_released", "oneshot") else CUBIC
    dumped = {"method": name, "cadence": 20, **opening, "metric": {"method": "identity"},
              "decoupled": False, **OLD[name]}  # fmt: skip
    assert validate(with_solver(dumped)).settings()["solver"] == dumped
    assert validate(with_solver(name)).settings()["solver"] == dumped


MIXED = {
    "model": "lenet5",
    "data": "digits",
    "plan": {"sets": {"conv*": "filters", "fc*": {"n_of_m": {"n": 2, "m": 4}}}, "density": 0.3, "bits": 4},
    "training": {"epochs": 1},
}  # fmt: skip


def test_sets_by_glob_and_bits_make_a_mixed_plan_on_levels():
    recipe = validate(MIXED)
    task = make_task(recipe)
    made = make_plan(recipe, make_model(recipe, task.model_arguments), task)
    assert made.coupled is not None
    assert made.entries["fc1.weight"].set == sets.NOfM(2, 4)
    assert set(made.levels) == {"conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight"}
    again = validate(recipe.settings())  # as a run's config.json says it, defaults and all
    assert again.plan == recipe.plan


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"sets": {"fc*": "unstructured"}, "set": "filters", "density": 0.1}, "not both"),
        ({"sets": {"fc*": "unstructured"}, "latency": 0.5}, "leave sets and bits out"),
        ({"sets": {"fc*": "unstructred"}, "density": 0.1}, "unstructured"),
    ],
)
def test_sets_that_do_not_go_together_are_refused(plan, said):
    with pytest.raises(RecipeError, match=said):
        validate({**MIXED, "plan": plan})


STAGED = {
    "model": "lenet5", "data": "digits", "plan": {"density": 0.1}, "training": {},
    "stages": [
        {"name": "dense", "epochs": 1},
        {"name": "squeeze", "epochs": 2, "method": {"slr": {"cadence": 5}}, "cut": True},
        {"name": "again", "epochs": 1, "start": {"rewind": {"stage": "dense", "step": 3}}},
    ],
}  # fmt: skip


def test_stages_say_where_they_start_and_which_figures_are_theirs():
    recipe = validate(STAGED)
    assert validate(recipe.settings()) == recipe
    stages = make_stages(recipe, Planned(lambda model: None), steps_per_epoch=20)
    assert [s.figure for s in stages] == [None, "hard_pruned", "retrained"]
    assert stages[1].aim is not None
    assert stages[2].start == Rewind("dense", 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"retrain": {"epochs": 1}}, "retrain: stages say it all"),
        ({"stages": [{"name": "dense", "epochs": 1}]}, "none of them cuts"),
        (
            {"stages": [{"name": "a", "epochs": 1, "cut": True, "start": {}}]},
            "exactly one of rewind, load, redraw",
        ),
    ],
)
def test_stages_that_say_too_much_or_too_little_are_refused(change, said):
    with pytest.raises(RecipeError, match=said):
        validate({**STAGED, **change})


def test_without_stages_training_needs_its_epochs():
    with pytest.raises(RecipeError, match=r"training\.epochs: required"):
        validate({"model": "lenet5", "data": "digits", "plan": {"density": 0.1}, "training": {}})
