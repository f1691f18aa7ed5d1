"""``espalier prune`` in several processes: one run folder, the same result, and no hang when a rank is lost."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Plain SGD: Adam divides by small gradients, and their rounding would grow.
RECIPE = {
    "model": "lenet300",
    "data": {"name": "digits", "limit_train": 160, "limit_test": 50},
    "plan": {"compression": 5},
    "solver": {"method": "slr", "cadence": 2},
    "training": {"epochs": 2, "batch_size": 32, "lr": 0.05, "optimiser": "sgd", "threads": 1},
    "checkpoint": {"steps": 1},
}


def command(recipe, out, *more):
    return [sys.executable, "-m", "espalier", "prune", str(recipe), "--out", str(out), *more]


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    return path


def test_two_processes_give_the_weights_of_one_and_only_rank_0_has_the_folder(recipe, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch)}
    alone = subprocess.run(command(recipe, one), capture_output=True, text=True, timeout=200)
    assert alone.returncode == 0, alone.stderr
    several = subprocess.run(
        command(recipe, two, "--nproc", "2"),
        capture_output=True,
        text=True,
        timeout=200,
        env=environment,
    )
    assert several.returncode == 0, several.stderr
    timeless = [re.sub(r"\d+\.\d s\b", "", each.stdout) for each in (alone, several)]
    assert timeless[1].replace(str(two), str(one)) == timeless[0]
    first, second = (load_file(folder / "weights.safetensors") for folder in (one, two))
    for name, weight in first.items():
        assert torch.equal(weight != 0, second[name] != 0), name
        torch.testing.assert_close(second[name], weight, rtol=0, atol=1e-5)
    assert sorted(p.name for p in one.iterdir()) == sorted(p.name for p in two.iterdir())
    # torch's compiler may keep a cache of its own there.
    assert not [p.name for p in scratch.iterdir() if not p.name.startswith("torchinductor")]
    assert json.loads((two / "config.json").read_text())["ranks"] == 2


def rank_of(process):
    """Rank 1 of a launcher: of its children the one whose environment says so."""
    for entry in Path("/proc").iterdir():
        try:
            variables = (entry / "environ").read_bytes()
            parent = re.search(r"PPid:\s*(\d+)", (entry / "status").read_text())
        except OSError:
            continue
        if parent and int(parent[1]) == process.pid and b"\0RANK=1\0" in b"\0" + variables:
            return int(entry.name)
    return None


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds a rank in /proc")
def test_a_lost_rank_ends_the_run_with_one_message_and_another_count_goes_on(recipe, tmp_path):
    out = tmp_path / "run"
    long = ["--set", "training.epochs=2000"]
    going = subprocess.Popen(
        command(recipe, out, *long, "--nproc", "2", "--timeout", "60"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 150
        while not (out / "previous.safetensors").exists() and time.monotonic() < deadline:
            assert going.poll() is None, going.stderr.read()
            time.sleep(0.05)
        os.kill(rank_of(going), signal.SIGKILL)
        _, said = going.communicate(timeout=60)
    finally:
        going.kill()
    assert going.returncode == 1
    errors = [line for line in said.splitlines() if "error" in line.lower()]
    assert len(errors) == 1, said
    assert "rank" in errors[0]
    assert "the last good checkpoint is kept" in errors[0]
    assert "--nproc 2 --resume" in said
    assert "Traceback" not in said
    # The very same run, to its end, on one rank.
    shorter = command(recipe, out, "--set", "training.epochs=2000", "--resume")
    resumed = subprocess.Popen(shorter, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 100
        lines = out / "metrics.jsonl"
        while '"resumed"' not in lines.read_text() and time.monotonic() < deadline:
            assert resumed.poll() is None, resumed.stderr.read()
            time.sleep(0.05)
    finally:
        resumed.kill()
        resumed.communicate()
    assert '"resumed"' in lines.read_text()
