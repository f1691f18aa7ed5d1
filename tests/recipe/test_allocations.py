"""Budgets that are searched for, or that move, as a recipe says them."""

import json

import pytest

from espalier.errors import RecipeError
from espalier.recipe import json_schema, validate
from espalier.recipe._building import make_model, make_plan, make_task
from espalier.sets import Priced

BASE = {
    "model": "lenet5",
    "data": {"name": "digits", "limit_train": 200, "limit_test": 50},
    "training": {"epochs": 1},
}
COUPLED = {"set": "filters", "macs": 0.4}


def made(note=None, **section):
    recipe = validate({**BASE, "plan": section})
    assert validate(recipe.settings()).plan == recipe.plan  # a run's config.json is read back
    task = make_task(recipe)
    model = make_model(recipe, task.model_arguments)
    return recipe, make_plan(recipe, model, task, (), note)


@pytest.mark.parametrize(
    "allocation",
    [{"amc": {"episodes": 6, "warmup": 3, "hidden": 8}}, {"random": {"evaluations": 5}},
     {"sensitivity": {"points": 2}}, {"method": "random", "evaluations": 3}],
    ids=json.dumps,
)  # fmt: skip
@pytest.mark.parametrize("asked", [{"density": 0.1}, {"macs": 0.3}, COUPLED], ids=json.dumps)
def test_a_search_meets_what_is_asked(allocation, asked):
    noted = []
    _, plan = made(note=noted.append, allocation=allocation, **asked)
    assert noted
    if "density" in asked:
        assert sum(entry.nonzeros for entry in plan.entries.values()) == 43_050
    else:
        assert plan.macs_left <= asked["macs"] * plan.macs
        assert plan.macs_left >= (0.9 * asked["macs"]) * plan.macs


def test_without_a_run_to_search_in_the_budget_is_shown_even():
    recipe, plan = made(allocation="amc", density=0.1)
    assert recipe.plan.searches
    assert plan.entries["fc1.weight"].keep == 40_000


@pytest.mark.parametrize("start", ["uniform", "erk", "global"])
def test_shadow_prices_begin_with_the_parts_of_a_rule(start):
    recipe, plan = made(allocation={"shadow_prices": {"start": start}}, density=0.1)
    assert not recipe.plan.searches
    (part,) = plan.parts
    assert isinstance(part, Priced)
    if start == "uniform":
        assert part.keep == {
            "conv1.weight": 50, "conv2.weight": 2500, "fc1.weight": 40_000, "fc2.weight": 500
        }  # fmt: skip


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"allocation": "senstivity"}, "did you mean 'sensitivity'"),
        ({"allocation": "unifrm"}, "did you mean 'uniform'"),
        ({"allocation": {"amc": {"episode": 3}}}, "did you mean 'episodes'"),
        ({"allocation": {"amc": {"floor": 2}}}, "allocation"),
        ({"allocation": 3}, "allocation"),
        ({"allocation": {"random": {"log": True}}}, "wants floor > 0"),
        ({"allocation": {"shadow_prices": {"by": "guess"}}}, "allocation"),
        ({"allocation": "amc", "ranking": {"per": "macs"}}, "give that too"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_at_its_place(section, said):
    with pytest.raises(RecipeError, match=said):
        validate({**BASE, "plan": {"density": 0.1, **section}})


def test_an_old_recipe_keeps_its_word():
    recipe = validate({**BASE, "plan": {"density": 0.1, "allocation": "erk"}})
    assert recipe.settings()["plan"]["allocation"] == "erk"


def test_the_schema_knows_rules_and_searches():
    section = json_schema()["$defs"]["PlanSection"]["properties"]["allocation"]
    names = section["anyOf"][0]["enum"]
    assert {"uniform", "erk", "global", "shared", "amc", "random", "sensitivity"} <= set(names)
