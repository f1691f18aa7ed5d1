"""The page of results says what the result files say, and their runs are those of the recipes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from espalier.recipe import load

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def test_the_tables_are_those_of_the_result_files():
    command = [sys.executable, str(BENCHMARKS / "tables.py"), "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert checked.returncode == 0, checked.stderr


RECIPES = sorted(str(path.relative_to(BENCHMARKS)) for path in BENCHMARKS.glob("recipes/*/*.yaml"))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_of_the_benchmarks_is_a_recipe(name):
    recipe, _ = load(BENCHMARKS / name)
    assert recipe.compare.methods


def test_every_gathered_run_says_on_what_it_was_made():
    rows = json.loads((BENCHMARKS / "results" / "compared.json").read_text())["rows"]
    assert rows
    for row in rows:
        assert row["versions"]["torch"]
        assert row["hardware"]["cpu"]
        assert row["git_commit"]
        assert row["seed"] >= 0
