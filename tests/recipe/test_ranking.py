"""Several budgets, and a ranking of coupled units, as a recipe says them."""

import pytest

from espalier import budgets
from espalier.errors import BudgetError, RecipeError
from espalier.export import in_onnx_runtime
from espalier.measure._runtimes import eager
from espalier.recipe import _latency as recipe_latency
from espalier.recipe import validate
from espalier.recipe._building import make_model, make_plan, make_task

BASE = {"model": "lenet5", "data": "digits", "training": {"epochs": 1}}
ASKED = {"set": "filters", "macs": 0.4, "bytes": 0.4}


def _plan(**section):
    recipe = validate({**BASE, "plan": section})
    assert validate(recipe.settings()).plan == recipe.plan  # a run's config.json is read back
    task = make_task(recipe)
    model = make_model(recipe, task.model_arguments)
    return make_plan(recipe, model, task)


@pytest.mark.parametrize(
    "ranking",
    [None, {"per": "macs"}, {"per": "seconds"}, {"metric": "fisher", "batches": 2},
     {"per": "bytes", "metric": {"method": "activations", "beta": 0.5}, "batches": 2}],
    ids=str,
)  # fmt: skip
def test_a_global_ranking_meets_every_budget_of_the_recipe(ranking):
    made = _plan(allocation="global", **ASKED, **({"ranking": ranking} if ranking else {}))
    assert made.macs_left <= 0.4 * made.macs
    before, after = made.delivered.bytes
    assert after <= 0.4 * before


def test_a_metric_changes_which_units_are_ranked_low():
    even = _plan(allocation="global", **ASKED)
    fisher = _plan(allocation="global", ranking={"metric": "fisher", "batches": 4}, **ASKED)
    assert even.coupled.keep != fisher.coupled.keep


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"macs": 0.5, "keep": {"conv1.weight": 3}}, "got keep and macs"),
        ({"density": 0.5, "sparsity": 0.5}, "got density and sparsity"),
        ({"macs": 0.5, "latency": 0.5}, "got latency and macs"),
        ({"macs": 0.5, "ranking": {"per": "macs"}}, "give that too"),
        ({"macs": 0.5, "allocation": "global", "ranking": {"per": "joules"}}, "plan.ranking.per"),
    ],
)
def test_what_does_not_go_together_is_refused(section, said):
    with pytest.raises(RecipeError, match=said):
        validate({**BASE, "plan": {"set": "filters", **section}})


def test_a_latency_is_asked_for_in_a_runtime_with_a_batch(monkeypatch):
    asked = {}

    def plan_for_latency(model, example, target, **settings):
        asked.update(settings, target=target, example=example)
        raise BudgetError("enough seen")

    monkeypatch.setattr(recipe_latency, "plan_for_latency", plan_for_latency)
    with pytest.raises(BudgetError, match="enough seen"):
        _plan(set="filters", latency={"of_dense": 0.6, "runtime": "onnxruntime", "batch": 8})
    assert (asked["target"], asked["batch"], asked["multiple"]) == (0.6, 8, 1)
    assert asked["runtime"].func is in_onnx_runtime
    assert asked["allocation"] is budgets.uniform
    with pytest.raises(BudgetError, match="enough seen"):
        _plan(set="filters", latency=0.6, allocation="global", ranking={"per": "seconds"})
    assert (asked["batch"], asked["runtime"], asked["allocation"].per) == (1, eager, "seconds")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"latency": 1.5}, "plan.latency: 1.5 should be less than 1"),
        ({"latency": {"of_dense": 0.5, "runtime": "onnxrt"}}, "plan.latency.runtime"),
    ],
)
def test_a_latency_that_cannot_be_asked_for_is_refused(section, said):
    with pytest.raises(RecipeError, match=said):
        _plan(set="filters", **section)


def test_a_latency_chooses_widths_by_a_rule_that_does():
    with pytest.raises(BudgetError, match="coupled channels are allotted by"):
        _plan(set="filters", latency=0.5, allocation="erk")
