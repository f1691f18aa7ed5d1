"""A run that is killed or stopped goes on to the very same bytes."""

import os
import signal
import subprocess
import time

import pytest

from cli.job import command, process

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
