"""Budgets that are searched for, or that move, as a user runs them: the shipped recipes, smaller."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALLER = [
    "data.limit_train=160", "data.limit_test=50", "pretrain.epochs=1", "training.epochs=2",
    "solver.cadence=2",
]  # fmt: skip
FEWER = {
    "amc-digits": ["plan.allocation.amc.episodes=8", "plan.allocation.amc.warmup=4"],
    "random-search-digits": ["plan.allocation.random.evaluations=5"],
    "sensitivity-digits": ["plan.allocation={sensitivity: {points: 2}}"],
    "shadow-prices-digits": [],
}


@pytest.mark.parametrize("name", FEWER)
def test_the_shipped_recipe_runs_to_its_budget(espalier, place, name):
    settings = [f"--set={s}" for s in (*SMALLER, *FEWER[name])]
    path = ROOT / f"recipes/{name}.yaml"
    done = espalier("prune", path, "--out", "run", *settings)
    assert done.status == 0, done.err
    result = json.loads((place / "run/result.json").read_text())
    assert sum(layer["nonzero"] for layer in result["layers"].values()) == 10_762
    assert (place / "run/search.json").is_file() == (name != "shadow-prices-digits")
    assert espalier("report", "run").status == 0
    again = espalier("prune", path, "--out", "run", "--resume", *settings)
    assert again.status == 0, again.err


def test_plan_says_that_the_run_will_search(espalier, place):
    shown = espalier("plan", ROOT / "recipes/amc-digits.yaml")
    assert shown.status == 0, shown.err
    assert "The budget shown is even; the run searches for its shares" in shown.out
    moving = espalier("plan", ROOT / "recipes/shadow-prices-digits.yaml")
    assert "will be made again after pretraining" in moving.out


def test_methods_lists_rules_and_searches(espalier, place):
    listed = json.loads(espalier("methods", "--json").out)["plan.allocation"]
    assert set(listed) == {
        "uniform", "erk", "global", "shared", "amc", "random", "sensitivity", "shadow_prices",
        "package.module:Name",
    }  # fmt: skip
    assert all(listed.values())


def test_a_misspelt_search_is_refused_with_the_nearest_name(espalier, recipe, place):
    answer = espalier("plan", recipe(plan__allocation={"amd": {}}))
    assert answer.status == 2
    assert "did you mean 'amc'" in answer.err
