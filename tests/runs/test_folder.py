"""The run folder: locked, append-only, readable at any moment."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

import espalier as esp
from espalier._ground.tree import load_tree
from espalier.errors import CheckpointError, RunFolderError
from espalier.models import load_weights
from espalier.runs import RunFolder, read_run
from espalier.runs._aims import read_decided
from espalier.training import Training
from training.problem import Points, network, plan_for, prune_run

HOLD = """
import sys, time
from espalier.runs import RunFolder
run = RunFolder(sys.argv[1])
run.write_config({})
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_a_folder_in_use_is_refused_and_a_killed_process_holds_no_lock(tmp_path):
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(RunFolderError, match=f"in use by process {process.pid};"):
            RunFolder(folder, resume=True)
        with pytest.raises(RunFolderError, match="already holds a run; resume it"):
            RunFolder(folder)
        assert read_run(folder).result is None  # reading needs no lock
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert (folder / "lock").exists()
    RunFolder(folder, resume=True).close()


def test_a_second_handle_in_the_same_process_is_refused_too(tmp_path):
    with RunFolder(tmp_path / "run"), pytest.raises(RunFolderError, match=str(os.getpid())):
        RunFolder(tmp_path / "run")
    with RunFolder(tmp_path / "run"):
        pass


def test_a_replaced_lock_file_lets_no_second_process_in(tmp_path):
    with RunFolder(tmp_path / "run") as run:
        (tmp_path / "run" / "lock").unlink()
        with pytest.raises(RunFolderError, match="in use by process"):
            RunFolder(tmp_path / "run")
        run.write_config({})


@pytest.mark.parametrize("write", ["write_config", "append", "write_weights", "write_checkpoint"])
def test_a_folder_made_anew_is_not_the_one_that_was_taken(tmp_path, write):
    """Whoever holds the old one writes nothing into the new one, which another may have taken."""
    given = {
        "write_config": [{}], "append": [{"event": "a"}], "write_weights": ["w", {}],
        "write_checkpoint": ["c", {}, "d"],
    }  # fmt: skip
    with RunFolder(tmp_path / "run") as run:
        shutil.rmtree(tmp_path / "run")
        with pytest.raises(RunFolderError, match="was deleted, moved or made anew"):
            getattr(run, write)(*given[write])
        with RunFolder(tmp_path / "run"):
            with pytest.raises(RunFolderError, match="was deleted, moved or made anew"):
                getattr(run, write)(*given[write])
            assert {path.name for path in (tmp_path / "run").iterdir()} == {"lock"}


def test_all_files_have_the_mode_that_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        prune_run(
            network(), Points(), plan_for, esp.SLR(), folder=tmp_path / "run",
            prune=Training(epochs=1), retrain=Training(epochs=1),
        )  # fmt: skip
    finally:
        os.umask(before)
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path / "run").iterdir()}
    assert modes == dict.fromkeys(modes, "0o640")


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_process_killed_within_a_write_leaves_nothing_after_the_next_opening(tmp_path, call):
    with RunFolder(tmp_path) as run:
        run.write_config({})
        run.write_weights("w", {"w": torch.ones(3)})
    child = os.fork()
    if child == 0:
        with RunFolder(tmp_path, resume=True) as run:
            owner, name = {"fsync": (os, "fsync"), "rename": (type(tmp_path), "replace")}[call]
            setattr(owner, name, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            run.write_weights("w", {"w": torch.zeros(3)})
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert len([path for path in tmp_path.iterdir() if path.name.startswith(".tmp")]) == 1
    with RunFolder(tmp_path, resume=True):
        assert {path.name for path in tmp_path.iterdir()} == {"config.json", "lock", "w"}
    assert load_file(tmp_path / "w")["w"].sum() == 3


def test_a_folder_of_other_things_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    for resume in (False, True):
        with pytest.raises(RunFolderError, match=r"holds other files \(thesis\.tex\)"):
            RunFolder(tmp_path, resume=resume)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(RunFolderError, match="cannot be made a run folder"):
        RunFolder(tmp_path / "run")


def test_temporary_files_of_a_killed_process_are_removed(tmp_path):
    for name in (".tmp-1-checkpoint.safetensors", ".tmpAb12cd"):  # ours, and those of safetensors
        (tmp_path / name).write_text("half")
    with RunFolder(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {"lock"}


def test_everything_written_is_read_back(tmp_path):
    with RunFolder(tmp_path) as run:
        run.write_config({"recipe": {"model": "lenet5"}, "seed": 3})
        run.write_yaml("plan.yaml", {"w": {"keep": 3}})
        run.append({"event": "epoch", "epoch": 1, "metrics": {"loss": float("nan")}})
        record = read_run(tmp_path)
        assert record.result is None
        run.write_json("other.json", {"keep": (1, torch.tensor(2.5))})
    record = read_run(tmp_path)
    assert record.config == {
        "format": "espalier-run", "version": 3, "recipe": {"model": "lenet5"}, "seed": 3
    }  # fmt: skip
    assert record.plan == {"w": {"keep": 3}}
    assert json.loads((tmp_path / "other.json").read_text()) == {"keep": [1, 2.5]}
    (event,) = record.events
    assert event.pop("time") >= 0
    assert event == {"event": "epoch", "epoch": 1, "metrics": {"loss": None}}


def test_weights_are_plain_safetensors_that_a_model_loads(tmp_path):
    model, other = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    with RunFolder(tmp_path) as run:
        run.write_weights("weights.safetensors", {**model.state_dict(), "weight": model.weight})
    load_weights(other, tmp_path / "weights.safetensors")
    assert torch.equal(model.weight, other.weight)


def test_a_half_written_last_line_is_left_out_and_not_glued_to_the_next(tmp_path):
    with RunFolder(tmp_path) as run:
        run.write_config({})
        run.append({"event": "a"})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"event": "b", "st')
    assert [event["event"] for event in read_run(tmp_path).events] == ["a"]
    with RunFolder(tmp_path, resume=True) as run:
        assert run.count == 1
        run.append({"event": "c"})
    assert [event["event"] for event in read_run(tmp_path).events] == ["a", "c"]


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    with RunFolder(tmp_path) as run:
        run.write_config({})
    (tmp_path / "metrics.jsonl").write_text('{"event": "a"}\nrubbish\n{"event": "b"}\n')
    with pytest.raises(RunFolderError, match="line 2 is not an event"):
        read_run(tmp_path)


def test_rewind_keeps_the_first_events_byte_for_byte_and_the_clock(tmp_path):
    with RunFolder(tmp_path) as run:
        for number in range(5):
            run.append({"event": "epoch", "number": number, "x": 0.1 + number})
        lines = (tmp_path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
        run.rewind(3, seconds=100.0)
        assert (tmp_path / "metrics.jsonl").read_bytes() == b"".join(lines[:3])
        assert run.count == 3
        assert 100 <= run.append({"event": "next"})["time"] < 101
        assert [event.get("number") for event in run.events()] == [0, 1, 2, None]


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "cannot be read"), ("[]", "not a mapping"), ("{}", "not that of a run"),
     ('{"format": "espalier-run", "version": 9}', "format version 9, and this Espalier reads 1 to 3")],
)  # fmt: skip
def test_what_is_no_run_of_ours_is_refused(tmp_path, content, message):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(RunFolderError, match=message):
        read_run(tmp_path)
    with pytest.raises(RunFolderError, match=message):
        RunFolder(tmp_path, resume=True)


def test_a_missing_folder_and_one_without_a_run_are_told_apart(tmp_path):
    with pytest.raises(RunFolderError, match="no such folder"):
        read_run(tmp_path / "x")
    with pytest.raises(RunFolderError, match=r"no config\.json"):
        read_run(tmp_path)


@pytest.mark.parametrize("name", ["plan.yaml", "result.json"])
def test_a_damaged_file_of_a_run_is_named(tmp_path, name):
    with RunFolder(tmp_path) as run:
        run.write_config({})
    (tmp_path / name).write_text("{a: [")
    with pytest.raises(RunFolderError, match=f"{name}: cannot be read"):
        read_run(tmp_path)


def test_a_full_disk_is_one_clear_message_for_every_writer(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with RunFolder(tmp_path) as run:
        run.write_json("a.json", {"old": True})
        run.write_weights("w.safetensors", {"w": torch.ones(2)})
        monkeypatch.setattr(os, "fsync", full)
        writers = {
            "a.json": lambda: run.write_json("a.json", {}),
            "b.yaml": lambda: run.write_yaml("b.yaml", {}),
            "c.txt": lambda: run.write_text("c.txt", "x"),
            "w.safetensors": lambda: run.write_weights("w.safetensors", {"w": torch.zeros(2)}),
        }
        for name, write in writers.items():
            with pytest.raises(RunFolderError, match=rf"{name}: .*no space left on the disk"):
                write()
        assert json.loads((tmp_path / "a.json").read_text()) == {"old": True}
        assert {p.name for p in tmp_path.iterdir()} == {"lock", "a.json", "w.safetensors"}


def test_an_event_that_does_not_fit_on_the_disk_is_a_clear_message(tmp_path, monkeypatch):
    class Full:
        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self):
            pass

    with RunFolder(tmp_path) as run:
        monkeypatch.setattr(run, "_metrics", Full())
        with pytest.raises(RunFolderError, match="No space left on device; free some"):
            run.append({"event": "a"})


def test_a_plain_weights_file_is_no_checkpoint(tmp_path):
    with RunFolder(tmp_path) as run:
        run.write_weights("weights.safetensors", {"w": torch.ones(2)})
    with pytest.raises(Exception, match="not a checkpoint of Espalier's"):
        load_tree(tmp_path / "weights.safetensors")


def as_version_1(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "version": 1}))


def test_a_run_of_version_0_1_that_ended_is_read_and_one_that_did_not_is_refused(tmp_path):
    def run(resume):
        torch.manual_seed(0)
        return prune_run(
            network(), Points(), plan_for, esp.Constrained(solver=esp.OneShot()),
            folder=tmp_path / "run", resume=resume, prune=Training(epochs=1),
        )  # fmt: skip

    done = run(resume=False)
    as_version_1(tmp_path / "run")
    assert run(resume=True).result == done.result
    (tmp_path / "run" / "result.json").unlink()
    with pytest.raises(CheckpointError, match=r"of format version 1 that has not ended"):
        run(resume=True)


def test_a_decision_without_its_parts_is_refused_by_its_file(tmp_path):
    path = tmp_path / "quantisation.json"
    path.write_text('{"bits": {}}')
    with pytest.raises(CheckpointError, match=r"quantisation\.json: cannot be read: 'search'"):
        read_decided(path, "bits", "search")
