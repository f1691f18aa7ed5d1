"""One file is all that a new set or a new solver takes: the two pages of the documentation, taken at their word."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from espalier.cli import main
from espalier.recipe import load

ROOT = Path(__file__).parents[2]
SET, SOLVER = ROOT / "docs/adding-a-set.md", ROOT / "docs/adding-a-solver.md"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def merged(*parts: str) -> dict:
    return {key: value for part in parts for key, value in yaml.safe_load(part).items()}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A current directory with the package ``mine`` in it, as a reader of the two pages has."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/__init__.py").touch()
    (tmp_path / "mine/strips.py").write_text(blocks(SET, "python")[0])
    (tmp_path / "mine/inert.py").write_text(blocks(SOLVER, "python")[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]


def recipe(place: Path) -> Path:
    content = {
        "model": "lenet5",
        "data": {"name": "digits", "limit_train": 160, "limit_test": 50},
        **merged(*blocks(SET, "yaml"), *blocks(SOLVER, "yaml")),
        "training": {"epochs": 2, "batch_size": 32},
    }
    content["solver"]["cadence"] = 2  # the run has ten steps
    path = place / "mine.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.mark.parametrize("page", [SET, SOLVER], ids=["set", "solver"])
def test_the_tests_on_the_page_pass(page, place):
    names: dict = {}
    exec(compile(blocks(page, "python")[1], page.name, "exec"), names)
    tests = [found for name, found in names.items() if name.startswith("test_")]
    assert len(tests) == 3
    for each in tests:
        each()


def test_a_recipe_that_names_both_is_trained_from_the_command_line(place, capfd):
    assert main(["prune", str(recipe(place)), "--out", "run", "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert result["counts"]["conv_fc_weights"]["compression"] == pytest.approx(5, rel=0.01)
    assert "mine.strips:Strips" in (place / "run/plan.yaml").read_text()
    kept = json.loads((place / "run/config.json").read_text())["recipe"]
    assert kept["plan"]["set"] == {"method": "mine.strips:Strips", "length": 5}
    assert kept["solver"]["method"] == "mine.inert:InertPenalty"
    said = {name: kept["solver"][name] for name in ("rho", "beta", "cadence")}
    assert said == {"rho": 0.2, "beta": 0.5, "cadence": 2}
    for command in (["measure", "run", "--json"], ["report", "run"]):
        assert main(command) == 0, capfd.readouterr().err


def test_settings_and_names_are_checked_as_those_of_our_own(place, capfd):
    path = recipe(place)
    strips = importlib.import_module("mine.strips").Strips
    assert load(path)[0].plan.set.build() == strips(5)
    for setting, message in [
        ("solver.beta=1.0", "solver.beta: 1.0 should be less than 1"),
        ("solver.bet=1.0", "solver.bet: unknown key; did you mean 'beta'?"),
        ("solver.method=mine.inert:Inert", "did you mean 'InertPenalty'"),
        ("plan.set={mine.strips:Strips: {}}", "Strips.length: required, but not there"),
        (
            "plan.set={mine.strips:Strips: {length: 0}}",
            "Strips.length: 0 should be greater than or",
        ),
    ]:
        assert main(["prune", str(path), "--set", setting, "--out", "run"]) == 2
        assert message in capfd.readouterr().err


LOOK = """
import espalier.sets, espalier.solvers, json, sys
from espalier.recipe import json_schema, validate
made = validate(json.load(sys.stdin))
schema = json.dumps(json_schema())
print(json.dumps({
    "file": espalier.sets.__file__,
    "set": made.plan.set.build() == espalier.sets.Strips(length=5),
    "solver": made.solver.build().solver == espalier.solvers.InertPenalty(rho=0.3),
    "schema": [name in schema for name in ("strips", "inert_penalty", "Weight of the old Z")],
}))
"""


@pytest.mark.slow
def test_a_file_in_the_source_tree_is_listed_named_and_in_the_schema_by_itself(tmp_path):
    package = tmp_path / "espalier"
    shutil.copytree(ROOT / "src/espalier", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "sets/_strips.py").write_text(blocks(SET, "python")[0])
    (package / "solvers/_inert.py").write_text(blocks(SOLVER, "python")[0])
    content = {
        "model": "lenet5", "data": "digits", "training": {"epochs": 1},
        "plan": {"density": 0.2, "set": {"strips": {"length": 5}}},
        "solver": {"inert_penalty": {"rho": 0.3}},
    }  # fmt: skip

    def python(*arguments: str) -> dict:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=300,
            input=json.dumps(content), env={**os.environ, "PYTHONPATH": str(tmp_path)}, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    listed = python("-m", "espalier.cli", "methods", "--json")
    assert listed["plan.set"]["strips"].startswith(
        "At most keep nonzero strips of length neighbours"
    )
    assert listed["solver.method"]["inert_penalty"].startswith("A quadratic pull towards a point")
    seen = python("-c", LOOK)
    assert Path(seen.pop("file")).is_relative_to(tmp_path)
    assert seen == {"set": True, "solver": True, "schema": [True, True, True]}
