"""Recipes: one source of truth with the solvers, forms of writing, messages."""

import dataclasses

import pytest
import yaml

from espalier import metrics, solvers
from espalier.errors import RecipeError
from espalier.recipe import SOLVERS, _yaml, load, override, validate
from espalier.recipe import _building as building
from espalier.recipe._methods import (
    CONTINUATIONS,
    METRICS,
    OPTIMISERS,
    RHO_SCHEDULES,
    SCHEDULES,
    SETS,
)
from espalier.recipe._recipe import expanded

GOOD = {"model": "lenet5", "data": "digits", "plan": {"density": 0.1}, "training": {"epochs": 2}}


def with_solver(solver) -> dict:
    return {**GOOD, "solver": solver}


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_by_its_name_alone_is_the_dataclass_with_its_own_defaults(name):
    target = SOLVERS[name].target
    assert validate(with_solver(name)).solver.build() == target()


FAMILIES = [*SOLVERS.items(), *METRICS.items(), *CONTINUATIONS.items(), *RHO_SCHEDULES.items(), *SETS.items(),
            *OPTIMISERS.items(), *SCHEDULES.items()]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "section"), FAMILIES, ids=[f"{n}-{s.__name__}" for n, s in FAMILIES]
)
def test_every_field_of_the_dataclass_and_no_other_can_be_set(name, section):
    fields = {field.name for field in dataclasses.fields(section.target)}
    assert set(section.model_fields) == fields | {"method"}


def test_every_solver_metric_and_schedule_has_a_name():
    def leaves(base):
        return {leaf for cls in base.__subclasses__() for leaf in ({cls} | leaves(cls))}

    def ours(base):
        return {cls for cls in leaves(base) if cls.__module__.startswith("espalier.")}

    assert ours(solvers.Solver) == {section.target for section in SOLVERS.values()}
    assert ours(metrics.Metric) == {section.target for section in METRICS.values()}
    assert ours(solvers.Schedule) == {section.target for section in CONTINUATIONS.values()}
    assert ours(solvers.RhoSchedule) == {section.target for section in RHO_SCHEDULES.values()}


@pytest.mark.parametrize(
    "written", [{"method": "admm", "rho": 0.3, "metric": {"method": "fisher", "beta": 0.9}},
                {"admm": {"rho": 0.3, "metric": {"fisher": {"beta": 0.9}}}}],
)  # fmt: skip
def test_settings_stand_beside_the_name_or_below_it(written):
    built = validate(with_solver(written)).solver.build()
    assert built == solvers.ADMM(rho=0.3, metric=metrics.Fisher(beta=0.9))


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
    assert (made.solver.rho, made.solver.cadence, made.solver.settle) == (0.2, 11, None)
    assert made.solver.continuation.slack(0.0, 0.1) == 0.0
    assert (made.training.epochs, made.training.lr) == (2, 5e-4)
    assert (made.freeze.training.epochs, made.freeze.rounds, made.freeze.fraction) == (3, 5, 0.3)
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
