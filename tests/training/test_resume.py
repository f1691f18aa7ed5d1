"""A run that was interrupted anywhere ends with the same bytes as one that was not."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import espalier as esp
from espalier.errors import CheckpointError
from espalier.runs import RunFolder
from espalier.training import _checkpoint as checkpoint
from espalier.training import fit
from training.problem import Points, network, optimizer_for, plan_for, scheduler_for, weights_of

SOLVERS = {
    "slr": lambda: esp.Constrained(solver=esp.SLR(), cadence=5),
    "slr in Adam's metric": lambda: esp.Constrained(
        solver=esp.SLR(), cadence=5, metric=esp.metrics.AdamMoment()
    ),
    "admm": lambda: esp.Constrained(solver=esp.ADMM(), cadence=3),
    "penalty": lambda: esp.Constrained(solver=esp.Penalty(), cadence=3),
    "gradual": lambda: esp.Constrained(solver=esp.Gradual(), cadence=4),
}


class StopHereError(Exception):
    pass


class Interrupting(Points):
    """Stops everything when a step is about to be taken."""

    def __init__(self, at: int | None):
        super().__init__()
        self.at = at

    def loss(self, model, batch):
        if batch[2] == self.at:
            raise StopHereError
        return super().loss(model, batch)


def attempt(folder: Path, at: int | None, solver="slr", optimizer="adam", scheduler=None, **more):
    """One process's worth: everything made anew, as a fresh interpreter would."""
    torch.manual_seed(0)
    model = network()
    optimizer = optimizer_for(model, optimizer)
    pruning = None
    if solver is not None:
        plan = plan_for(model)
        pruning = esp.Pruning(model, plan, SOLVERS[solver](), optimizer, steps=32)
    with RunFolder(folder, resume=folder.exists()) as run:
        if not (folder / "config.json").exists():
            run.write_config({})
        try:
            fit(
                model, Interrupting(at), pruning, optimizer=optimizer, epochs=4, run=run,
                scheduler=scheduler_for(optimizer, scheduler, 32), checkpoint_every=3, **more,
            )  # fmt: skip
        except StopHereError:
            return None, None
        untimed = [
            {k: v for k, v in event.items() if k not in ("time", "seconds")}
            for event in run.events()
            if event["event"] != "resumed"
        ]
    return weights_of(model), untimed


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    known = {}

    def run(**how):
        key = tuple(sorted(how.items()))
        if key not in known:
            known[key] = attempt(tmp_path_factory.mktemp("whole") / "run", None, **how)
        return known[key]

    return run


HOWS = [
    {"solver": "slr", "optimizer": "adam", "scheduler": "cosine"},
    {"solver": "slr", "optimizer": "momentum", "scheduler": "sequential"},
    {"solver": "slr in Adam's metric", "optimizer": "amsgrad", "scheduler": "onecycle"},
    {"solver": "admm", "optimizer": "adamw", "scheduler": "sequential"},
    {"solver": "penalty", "optimizer": "nesterov", "scheduler": "cosine"},
    {"solver": "gradual", "optimizer": "rmsprop", "scheduler": "onecycle"},
    {"solver": None, "optimizer": "adam", "scheduler": "cosine"},
]


@pytest.mark.parametrize("how", HOWS, ids=lambda how: " ".join(map(str, how.values())))
def test_resuming_is_exact(tmp_path, how, uninterrupted):
    """Before the first step, in the middle, at the ends of epochs, and twice."""
    for at in (0, 7, 8, 13, 16, 31):
        folder = tmp_path / str(at)
        assert attempt(folder, at, **how) == (None, None)
        if at == 13:
            assert attempt(folder, 22, **how) == (None, None)
        assert attempt(folder, None, **how) == uninterrupted(**how), at


def test_a_finished_phase_is_restored_and_not_trained_again(tmp_path, uninterrupted):
    attempt(tmp_path / "run", None)
    assert attempt(tmp_path / "run", at=0) == uninterrupted()


def test_seconds_are_summed_over_resumes(tmp_path):
    attempt(tmp_path / "run", 13)
    with RunFolder(tmp_path / "run", resume=True) as run:
        before = run.events()[-1]["time"]
    attempt(tmp_path / "run", None)
    with RunFolder(tmp_path / "run", resume=True) as run:
        events = run.events()
    assert [event["event"] for event in events].count("resumed") == 1
    times = [event["time"] for event in events]
    assert times == sorted(times)
    assert times[-1] > before


def test_without_randomness_restored_it_would_not_be_exact(tmp_path, uninterrupted, monkeypatch):
    """The problem notices when something is forgotten: here, the random state."""
    attempt(tmp_path / "run", 13)
    monkeypatch.setattr(checkpoint, "_set_random_state", lambda _: None)
    assert attempt(tmp_path / "run", None)[0] != uninterrupted()[0]


@pytest.mark.parametrize("damage", ["cut", "emptied", "foreign", "missing"])
def test_a_damaged_checkpoint_falls_back_to_the_previous_and_says_so(
    tmp_path, damage, uninterrupted, caplog
):
    folder = tmp_path / "run"
    attempt(folder, 20)
    path = folder / "checkpoint.safetensors"
    content = path.read_bytes()
    if damage == "missing":  # killed between the two renames
        path.unlink()
    else:
        path.write_bytes(
            {"cut": content[: len(content) // 2], "emptied": b"", "foreign": b"PK" * 99}[damage]
        )
    assert attempt(folder, None) == uninterrupted()
    assert "Going on from previous.safetensors" in caplog.text
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    (resumed,) = (event for event in events if event["event"] == "resumed")
    assert resumed["step"] == 15
    assert "checkpoint.safetensors" in resumed["remark"]


def test_when_both_are_damaged_the_error_names_both_and_sends_nobody_to_either(tmp_path):
    attempt(tmp_path / "run", 20)
    for name in ("checkpoint", "previous"):
        path = tmp_path / "run" / f"{name}.safetensors"
        path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError) as caught:
        attempt(tmp_path / "run", None)
    said = str(caught.value)
    assert re.search(
        r"/checkpoint\.safetensors: it is cut short.*/previous\.safetensors: it is cut", said
    )
    assert "resume from" not in said
    assert "begin anew in another folder" in said


def test_a_damaged_checkpoint_without_one_before_it_says_that_there_is_none(tmp_path):
    attempt(tmp_path / "run", 20)
    (tmp_path / "run" / "previous.safetensors").unlink()
    (tmp_path / "run" / "checkpoint.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"there is no previous\.safetensors to go on from"):
        attempt(tmp_path / "run", None)


def test_lines_written_after_the_checkpoint_and_half_a_line_are_dropped(tmp_path, uninterrupted):
    attempt(tmp_path / "run", 14)
    with open(tmp_path / "run" / "metrics.jsonl", "a") as file:
        file.write('{"event": "update", "step": 14}\n{"event": "epo')
    assert attempt(tmp_path / "run", None) == uninterrupted()


@pytest.mark.parametrize(
    ("change", "words"),
    [({"optimizer": "momentum"}, "is of Adam and the optimizer is SGD"),
     ({"solver": "admm"}, "SLR cannot go on as ADMM"),
     ({"solver": None}, "has a pruning"), ({"scheduler": "cosine"}, "has no scheduler")],
)  # fmt: skip
def test_resuming_as_something_else_is_refused(tmp_path, change, words):
    attempt(tmp_path / "run", 13)
    with pytest.raises(Exception, match=words):
        attempt(tmp_path / "run", None, **change)


def test_another_model_or_another_batch_size_is_refused(tmp_path, monkeypatch):
    attempt(tmp_path / "run", 13)
    monkeypatch.setattr("training.problem.Points.steps_per_epoch", 4)
    with pytest.raises(CheckpointError, match="with 8 steps an epoch and now there are 4"):
        attempt(tmp_path / "run", None)
    monkeypatch.undo()
    monkeypatch.setitem(globals(), "network", lambda: torch.nn.Linear(6, 2))
    with pytest.raises(CheckpointError, match="does not fit"):
        attempt(tmp_path / "run", None)


@pytest.mark.slow
def test_kill_9_at_random_moments_and_resume_ends_with_the_same_bytes():
    """Whole runs of three phases in real processes, killed again and again until they finish."""
    killer = Path(__file__).with_name("killer.py")
    done = subprocess.run(
        [sys.executable, str(killer)], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    kills = [int(line.split()[1]) for line in done.stdout.splitlines()]
    assert len(kills) == 3
    assert sum(kills) >= 5
