"""Every bad input gets one clear message on standard error, the right exit status and no traceback."""

import fcntl
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# What is changed in the recipe, the exit status, and what the message must say.
RECIPES = {
    "unknown key": ({"training__epoch": 3}, 2, r"tiny\.yaml: training\.epoch: unknown key; did you mean 'epochs'"),
    "unknown section": ({"trainning": {}}, 2, r"trainning: unknown key; did you mean 'training'"),
    "unknown solver setting": ({"solver__rhoo": 1.0}, 2, r"solver\.rhoo: unknown key; did you mean 'rho'"),
    "unknown method": ({"solver__method": "slrr"}, 2, r"solver: no method 'slrr'; did you mean 'slr'"),
    "unknown metric": ({"solver__metric": "adan"}, 2, r"solver\.metric: no metric 'adan'; did you mean 'adam'"),
    "unknown set": ({"plan__set": "filter"}, 2, r"plan\.set: no set 'filter'; did you mean 'filters'"),
    "unknown allocation": ({"plan__allocation": "erkk"}, 2, r"plan\.allocation: .*did you mean 'erk'"),
    "unknown model": ({"model": "lenet3000"}, 2, r"no model 'lenet3000'; did you mean 'lenet300'"),
    "unknown data": ({"data": "digit"}, 2, r"no data set 'digit'; did you mean 'digits'"),
    "wrong type": ({"training__epochs": "three"}, 2, r"training\.epochs: 'three' should be a valid integer"),
    "wrong value": ({"solver__rho": -0.1}, 2, r"solver\.rho: -0\.1 should be greater than 0"),
    "missing section": ({"plan": None}, 2, r"plan: required"),
    "no figure": ({"plan": {"set": "unstructured"}}, 2, r"give exactly one of density.*got none"),
    "two figures": ({"plan__density": 0.1}, 2, r"give exactly one.*got compression and density"),
    "glob that matches nothing": ({"plan__include": ["conv*"]}, 2, r"conv\*"),
    "keep larger than the tensor": (
        {"plan": {"keep": {"fc1.weight": 999_999_999}}}, 2, r"fc1\.weight.*999,?999,?999.*235,?200",
    ),
    "a set that does not fit a layer": (
        {"plan": {"density": 0.5, "set": "kernel_patterns", "include": ["fc1.weight"]}}, 2, r"fc1\.weight",
    ),
    "too little for a layer": ({"plan": {"compression": 1e9}}, 2, r"density"),
    "no such weights": ({"model": {"name": "lenet300", "weights": "none.safetensors"}}, 1, r"none\.safetensors"),
    "variable not set": ({"model": {"name": "lenet300", "weights": "${NOWHERE_AT_ALL}/w"}}, 2, r"NOWHERE_AT_ALL"),
    "no such user function": ({"model": "no_such_module:make"}, 2, r"no_such_module"),
    "no such data path": ({"data": {"name": "mnist", "path": "nowhere"}}, 1, r"nowhere: no such folder"),
    "no path": ({"data": "mnist"}, 2, r"needs a path"),
    "no such device": ({"training__device": "cud"}, 2, r"training\.device: 'cud'"),
    "batch larger than the data": ({"training__batch_size": 1000}, 2, r"batch_size=1000"),
    "momentum missing": (
        {"training__optimiser": {"method": "sgd", "nesterov": True, "momentum": 0.0}}, 2, r"[Nn]esterov",
    ),
}  # fmt: skip


def refused(answer, status: int, pattern: str) -> None:
    assert answer.status == status, answer
    assert "Traceback" not in answer.err
    assert re.search(r"^error: ", answer.err, re.MULTILINE)
    assert re.search(pattern, answer.err, re.DOTALL), answer.err


@pytest.mark.parametrize("case", RECIPES)
def test_a_recipe_that_cannot_be_done_is_refused_before_anything_is_written(
    case, espalier, recipe, place
):
    changes, status, pattern = RECIPES[case]
    refused(espalier("prune", recipe(**changes), "--out", "run"), status, pattern)
    assert not (place / "run").exists()


COMMANDS = {
    "unknown command": (["prunee"], 2, r"no command 'prunee'; did you mean 'prune'"),
    "unknown flag": (["prune", "RECIPE", "--resum"], 2, r"--resum"),
    "no recipe": (["prune"], 2, r"recipe"),
    "no such file": (["prune", "none.yaml"], 2, r"none\.yaml: cannot be read: No such file"),
    "a folder as recipe": (["prune", "."], 2, r"cannot be read: Is a directory"),
    "setting without a value": (
        ["plan", "RECIPE", "--set", "training.lr"],
        2,
        r"--set training\.lr: not of the form",
    ),
    "setting of an unknown key": (
        ["plan", "RECIPE", "--set", "training.lrr=1"],
        2,
        r"did you mean 'lr'",
    ),
    "setting below a number": (
        ["plan", "RECIPE", "--set", "training.epochs.x=1"],
        2,
        r"training\.epochs is 2",
    ),
    "setting that is no YAML": (
        ["plan", "RECIPE", "--set", "training.lr=[1"],
        2,
        r"--set training\.lr: line [12]",
    ),
    "unknown method to compare": (
        ["compare", "RECIPE", "--methods", "slr,admn"],
        2,
        r"'admn'; did you mean 'admm'",
    ),
    "a method twice": (
        ["compare", "RECIPE", "--methods", "slr,slr"],
        2,
        r"'slr' is asked for twice",
    ),
    "no seeds": (["compare", "RECIPE", "--seeds", "0"], 2, r"seeds"),
    "report on no run": (["report", "."], 2, r"not a run"),
    "report on nothing": (["report", "nowhere"], 2, r"nowhere"),
    "measure no run": (["measure", "."], 2, r"not a run"),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_a_command_that_says_nothing_sensible_is_refused(case, espalier, recipe):
    arguments, status, pattern = COMMANDS[case]
    path = recipe()
    refused(espalier(*(path if a == "RECIPE" else a for a in arguments)), status, pattern)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("model: lenet5\n  data: digits\n", r"tiny\.yaml: line 2"),
        ("model: lenet5\nmodel: lenet300\n", r"line 2, column 1: .*'model' is given twice"),
        ("model: !!python/object/apply:os.system ['true']\n", r"line 1"),
        ("", r"holds nothing"),
        ("- a\n", r"holds a list"),
        ("\x00", r"not valid YAML"),
    ],
)  # fmt: skip
def test_yaml_that_is_none_is_refused_with_its_line(text, pattern, espalier, recipe):
    path = recipe()
    path.write_text(text)
    refused(espalier("plan", path), 2, pattern)


def test_several_mistakes_are_told_at_once(espalier, recipe):
    answer = espalier("plan", recipe(training__epochs=-1, solver__cadence=0))
    refused(answer, 2, r"training\.epochs")
    assert "solver.cadence" in answer.err


def test_a_corrupt_image_is_named(espalier, recipe, place):
    for part in ("train", "test"):
        for label in ("a", "b"):
            (place / "images" / part / label).mkdir(parents=True)
            pixels = np.zeros((28, 28, 3), np.uint8)
            Image.fromarray(pixels).save(place / "images" / part / label / "0.png")
    (place / "images/train/b/0.png").write_bytes(b"\x89PNG\r\n\x1a\n no more")
    data = {"name": "folder", "path": "images", "options": {"size": 28}}
    refused(espalier("prune", recipe(data=data), "--out", "run"), 1, r"images/train/b/0\.png")


def test_a_pickle_is_never_opened(espalier, recipe, place):
    (place / "weights.pt").write_bytes(b"PK\x03\x04anything")
    model = {"name": "lenet300", "weights": "weights.pt"}
    refused(espalier("prune", recipe(model=model), "--out", "run"), 2, r"pickle")


def test_an_absurd_learning_rate_stops_and_keeps_the_last_good_checkpoint(espalier, recipe, place):
    path = recipe(pretrain=None, training__lr=1e30, training__optimiser={"sgd": {"momentum": 0.0}})
    refused(espalier("prune", path, "--out", "run"), 1, r"loss is (nan|inf)|NaN or infinity")
    assert (place / "run/checkpoint.safetensors").is_file()


@pytest.fixture
def finished(espalier, recipe) -> Path:
    """A run, and the recipe it was made from."""
    path = recipe(pretrain=None, retrain=None, training__epochs=1)
    assert espalier("prune", path, "--out", "run").status == 0
    return path


def test_a_folder_is_never_overwritten_and_never_taken_by_two(espalier, finished, recipe, place):
    run = ("--out", "run")
    refused(espalier("prune", finished, *run), 2, r"run: already holds a run; resume it")

    other = recipe("other.yaml", pretrain=None, retrain=None, training__epochs=5)
    refused(espalier("prune", other, *run, "--resume"), 2, r"training\.epochs was 1 and is now 5")

    with (place / "run/lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused(espalier("prune", finished, *run, "--resume"), 1, r"in use by process")

    (place / "mine").mkdir()
    (place / "mine/thesis.txt").write_text("years of work")
    refused(espalier("prune", finished, "--out", "mine"), 2, r"holds other files \(thesis\.txt\)")
    assert sorted(p.name for p in (place / "mine").iterdir()) == ["thesis.txt"]


def test_damaged_runs_are_told(espalier, finished, place):
    run = place / "run"
    whole = place / "whole"
    shutil.copytree(run, whole)
    (run / "result.json").unlink()
    for name in ("checkpoint", "previous"):
        file = run / f"{name}.safetensors"
        file.write_bytes(file.read_bytes()[:1000] if file.exists() else b"")
    refused(
        espalier("prune", finished, "--out", "run", "--resume"),
        1,
        r"(checkpoint|previous)\.safetensors",
    )

    (whole / "config.json").write_text(
        (whole / "config.json").read_text().replace('"version": 3', '"version": 99')
    )
    refused(espalier("measure", "whole"), 1, r"version 99")
    (whole / "config.json").write_text("{")
    refused(espalier("measure", "whole"), 1, r"config\.json: cannot be read")
