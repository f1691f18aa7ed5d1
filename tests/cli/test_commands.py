"""Each command does what its line of help says."""

import json
from html.parser import HTMLParser

import pytest
import yaml

from cli.job import process
from espalier.cli._main import app
from espalier.models import NAMES as MODELS
from espalier.models import import_object
from espalier.recipe import _methods as families


def test_plan_trains_nothing_and_says_what_is_left(espalier, recipe, place):
    answer = espalier("plan", recipe())
    assert answer.status == 0
    assert "fc1.weight" in answer.out
    assert "10.00×" in answer.out
    assert sorted(p.name for p in place.iterdir()) == ["tiny.yaml"]


def test_plan_says_before_the_run_what_will_disappoint(espalier, recipe):
    told = espalier(
        "plan", recipe(), "--set", "solver.cadence=1000", "--set", "compare.seeds=1"
    ).err
    assert "note: stage prune: " in told
    assert "at cadence 1000 make 0 updates, and fewer than about 20 hardly move them" in told
    assert "note: one seed: what differs between two runs may be chance" in told
    many = espalier("plan", recipe(), "--set", "solver.cadence=1", "--set", "compare.seeds=3",
                    "--set", "training.epochs=20").err  # fmt: skip
    assert "note: " not in many


def test_plan_json_has_exact_keeps(espalier, recipe):
    answer = json.loads(espalier("plan", recipe(), "--json").out)
    assert answer["counts"]["conv_fc_weights"] == {
        "total": 266_200,
        "nonzero": 26_620,
        "compression": 10.0,
    }


def test_a_setting_changes_the_plan(espalier, recipe):
    answer = espalier("plan", recipe(), "--set", "plan.compression=100", "--json")
    assert json.loads(answer.out)["counts"]["conv_fc_weights"]["nonzero"] == 2_662


def test_prune_then_measure_then_report(espalier, recipe, place):
    answer = espalier("prune", recipe(), "--out", "run")
    assert answer.status == 0
    for said in ("accuracy, dense:", "accuracy, hard-pruned:", "accuracy, retrained", "compression: 10.0×",
                 "conv_fc_weights", "run folder: run", "espalier report run"):  # fmt: skip
        assert said in answer.out
    assert "prune 2/2: loss" in answer.err  # plain lines where there is no terminal
    assert "\x1b" not in answer.err + answer.out

    written = {p.name for p in (place / "run").iterdir()}
    assert written >= {"recipe.yaml", "config.json", "plan.yaml", "metrics.jsonl", "before.safetensors",
                       "weights.safetensors", "result.json"}  # fmt: skip
    config = json.loads((place / "run/config.json").read_text())
    assert config["recipe"]["solver"]["rho"] == 0.1  # a default, resolved
    assert config["seed"] == 0
    assert {"versions", "hardware", "git_commit", "arguments"} <= set(config)

    measured = json.loads(espalier("measure", "run", "--json").out)
    assert measured["counts"]["conv_fc_weights"]["nonzero"] == 26_620
    assert measured["macs"] == {"dense": 266_200, "left": 26_620}
    assert measured["bytes"]["sparse"] < measured["bytes"]["dense"]

    assert espalier("report", "run").out == "report: run/report.html\n"
    HTMLParser().feed((place / "run/report.html").read_text())


def test_measure_of_a_recipe_is_of_its_dense_model(espalier, recipe):
    measured = json.loads(espalier("measure", recipe(), "--json").out)
    assert measured["counts"]["all_params"] == {
        "total": 266_610,
        "nonzero": 266_610,
        "compression": 1.0,
    }


def test_prune_json_is_result_json(espalier, recipe, place):
    answer = json.loads(espalier("prune", recipe(training__epochs=1), "--out", "run", "--json").out)
    assert answer.pop("run") == "run"
    assert answer == json.loads((place / "run/result.json").read_text())


def test_the_run_keeps_the_recipe_with_its_settings(espalier, recipe, place):
    espalier("prune", recipe(retrain=None), "--set", "training.lr=2e-3", "--out", "run")
    kept = yaml.safe_load((place / "run/recipe.yaml").read_text())
    assert kept["training"]["lr"] == 0.002
    assert "solver" in kept


def test_threads_are_the_recipes(espalier, recipe):
    import torch

    torch.set_num_threads(2)
    assert espalier("plan", recipe(training__threads=1)).status == 0
    assert torch.get_num_threads() == 1


def test_the_default_folder_is_named_for_the_recipe(espalier, recipe, place):
    answer = espalier("prune", recipe("mine.yaml", retrain=None, training__epochs=1))
    assert answer.status == 0
    assert (place / "runs/mine/result.json").is_file()


def test_every_method_has_a_line(espalier):
    listed = json.loads(espalier("methods", "--json").out)
    own = {"package.module:Name"}
    assert set(listed["solver.method"]) == set(families.SOLVERS) | own
    assert set(listed["solver.metric"]) == set(families.METRICS) | own
    assert set(listed["solver.continuation"]) == set(families.CONTINUATIONS) | own
    assert all(line for family in listed.values() for line in family.values())
    bases = {line.rpartition(" ")[2] for f in listed.values() for n, line in f.items() if n in own}
    assert "espalier.sets.Set" in bases
    assert all(isinstance(import_object(":".join(b.rsplit(".", 1))), type) for b in bases)


def test_models_and_data_are_listed(espalier):
    assert set(MODELS) <= set(json.loads(espalier("models", "--json").out)["model.name"])
    assert {"digits", "mnist", "cifar10", "folder"} <= set(
        json.loads(espalier("data", "--json").out)["data.name"]
    )
    assert "430" in espalier("models").out or "431,080" in espalier("models").out


FLAGS = {
    "plan": {"--set", "--json"},
    "prune": {"--set", "--out", "--resume", "--nproc", "--timeout", "--json"},
    "recipes": {"--counts", "--json"},
    "compare": {"--methods", "--seeds", "--published-cadence", "--set", "--out", "--json"},
    "compact": {"--out", "--multiple", "--gather", "--purify", "--guard", "--json"},
    "pack": {"--out", "--json"},
    "unpack": {"--out", "--limit", "--json"},
    "export": {"--to", "--run", "--out", "--batch", "--json"},
    "report": {"--out"},
    "measure": {"--set", "--latency", "--compile", "--json"},
    "methods": {"--json"},
    "models": {"--json"},
    "data": {"--json"},
}


def test_no_flag_is_added_unnoticed():
    import typer

    commands = typer.main.get_command(app).commands
    found = {
        name: {
            option
            for parameter in command.params
            for option in parameter.opts
            if option.startswith("-")
        }
        for name, command in commands.items()
    }
    assert {name: flags - {"--help"} for name, flags in found.items()} == FLAGS


@pytest.mark.slow
def test_help_does_not_wait_for_torch(place):
    import subprocess
    import sys

    code = "import sys, espalier.cli as c; c.main(['--help']); assert 'torch' not in sys.modules, 'torch'"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "compare" in done.stdout
    assert process(["--version"], place).stdout.startswith("espalier ")
