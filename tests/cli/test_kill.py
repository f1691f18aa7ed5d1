"""A run that is killed or stopped goes on to the very same bytes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from cli.job import command, process
from espalier.runs import RunFolder, read_run
from espalier.runs._run import Run

LONGER = {"training__epochs": 6, "solver__settle": 0.6, "checkpoint": {"steps": 3}}


def begun(recipe, place, folder):
    """A run as a process of its own, some checkpoints old."""
    child = subprocess.Popen(
        command("prune", recipe, "--out", folder), cwd=place, stderr=subprocess.PIPE, text=True,
        stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"},
        # A background job of a shell ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert child.stderr is not None
    for line in child.stderr:
        if line.startswith("prune 1/"):
            break
    time.sleep(0.05)
    return child


@pytest.mark.slow
@pytest.mark.timeout(900)  # three processes that import torch; a busy machine takes its time
def test_killed_and_resumed_ends_with_the_same_bytes(espalier, recipe, place):
    path = recipe(**LONGER)
    assert espalier("prune", path, "--out", "whole").status == 0
    child = begun(path, place, "killed")
    child.send_signal(signal.SIGKILL)
    assert child.wait(300) == -signal.SIGKILL
    child.stderr.close()
    assert not (place / "killed/result.json").exists(), "it was over before it was killed"

    resumed = process(["prune", path, "--out", "killed", "--resume"], place)
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed" in resumed.stderr
    for name in ("weights.safetensors", "before.safetensors", "plan.yaml"):
        assert (place / "killed" / name).read_bytes() == (place / "whole" / name).read_bytes(), name

    again = espalier(
        "prune", path, "--out", "killed", "--resume"
    )  # a finished run is read, not run
    assert again.status == 0
    assert "epochs," not in again.err


class StoppedThereError(BaseException):
    """Like a kill: no handler of errors sees it."""


def cut_short(espalier, monkeypatch, *arguments):
    """The command, stopped as soon as something is retrained: all before it has its checkpoints."""

    def stop(run, stage):
        if stage.name == "retrain":
            raise StoppedThereError
        return handle(run, stage)

    handle = Run._handle
    with monkeypatch.context() as patch:
        patch.setattr(Run, "_handle", stop)
        with pytest.raises(StoppedThereError):
            espalier(*arguments)


def test_a_checkpoint_of_another_density_does_not_end_this_run(
    espalier, recipe, place, monkeypatch
):
    """It once did: status 0, "converged", three times the weights that were allowed."""
    much = recipe("much.yaml", plan={"density": 0.3})
    little = recipe("little.yaml", plan={"density": 0.1})
    cut_short(espalier, monkeypatch, "prune", much, "--out", "much")
    cut_short(espalier, monkeypatch, "prune", little, "--out", "little")
    shutil.copy("much/checkpoint.safetensors", "little/checkpoint.safetensors")
    answer = espalier("prune", little, "--out", "little", "--resume")
    assert answer.status == 1
    assert (
        "little: its checkpoint is of another run: plan.density was 0.3 and is now 0.1"
        in answer.err
    )
    assert not (place / "little" / "result.json").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"training__seed": 3}, "seed was 0 and is now 3"),
     ({"data__limit_train": 128}, "data.train.content is not the same"),
     ({"plan": {"compression": 9}}, "plan.compression was 10.0 and is now 9.0"),
     ({"training__lr": 0.1}, "stages.pretrain.training.lr was 0.001 and is now 0.1"),
     ({"solver": {"method": "admm", "cadence": 2}}, "stages.prune.method.solver.is was 'espalier.solvers")],
)  # fmt: skip
def test_a_resume_with_something_else_is_refused_by_name(
    espalier, recipe, monkeypatch, changes, words
):
    path = recipe()
    cut_short(espalier, monkeypatch, "prune", path, "--out", "run")
    answer = espalier("prune", recipe("other.yaml", **changes), "--out", "run", "--resume")
    assert answer.status == 2
    assert words in answer.err


def test_what_a_later_stage_is_to_do_may_be_corrected(espalier, recipe, place, monkeypatch):
    cut_short(espalier, monkeypatch, "prune", recipe(), "--out", "run")
    right = recipe("right.yaml", retrain={"epochs": 2})
    resumed = espalier("prune", right, "--out", "run", "--resume")
    assert resumed.status == 0, resumed.err
    assert "pretrain 1/" not in resumed.err
    assert espalier("prune", right, "--out", "whole").status == 0
    weights = [(place / name / "weights.safetensors").read_bytes() for name in ("run", "whole")]
    assert weights[0] == weights[1]
    kept = yaml.safe_load((place / "run" / "recipe.yaml").read_text())
    assert kept["retrain"] == {"epochs": 2}
    assert read_run("run").config["recipe"]["retrain"]["epochs"] == 2


def test_whoever_does_not_get_the_folder_writes_nothing_into_it(espalier, recipe, place):
    """In two of ten races recipe.yaml was the loser's."""
    with RunFolder(place / "run"):
        answer = espalier("prune", recipe(), "--out", "run")
        assert answer.status == 1
        assert "in use by process" in answer.err
        assert {path.name for path in (place / "run").iterdir()} == {"lock"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_few_kills_of_the_campaign(tmp_path):
    """``benchmarks/kills.py`` at full length is 200 of them, over every kind of recipe."""
    campaign = Path(__file__).parents[2] / "benchmarks" / "kills.py"
    words = ["--kills", "4", "--kinds", "stages", "--out", tmp_path / "kills.json"]
    done = subprocess.run(
        [sys.executable, campaign, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 different files, 0 stray files" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)  # three processes that import torch; a busy machine takes its time
def test_ctrl_c_says_how_to_go_on(recipe, place):
    path = recipe(**{**LONGER, "training__epochs": 400})
    child = begun(path, place, "stopped")
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=300)
    assert child.returncode == 130
    assert "stopped: resume with" in said
    assert f"espalier prune {path} --out stopped --resume" in said
    assert "Traceback" not in said
