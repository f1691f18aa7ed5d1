"""Run, kill -9, resume, until it ends; compare with a run that nobody killed.

A program of its own, which forks: so that a kill is a kill, and torch is imported once.
"""

import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch

import espalier as esp
from espalier.runs import read_run
from espalier.training import Training
from training.problem import Points, network, plan_for, prune_run, timeless


class Slow(Points):
    def loss(self, model, batch):
        time.sleep(0.002)
        return super().loss(model, batch)


def run(folder: Path, checkpoint_every: int) -> None:
    torch.manual_seed(0)
    prune_run(
        network(), Slow(), plan_for, esp.Constrained(solver=esp.SLR(), cadence=5), folder=folder, resume=True,
        pretrain=Training(epochs=1, lr=0.05, optimizer="sgd", schedule="step"),
        prune=Training(epochs=2, lr=0.01, warmup=1),
        retrain=Training(epochs=1, lr=0.01, optimizer="adamw", weight_decay=0.1),
        checkpoint_every=checkpoint_every,
    )  # fmt: skip


def forked(folder: Path, checkpoint_every: int, patience: float | None) -> bool:
    """Whether a process that is killed after ``patience`` seconds got to the end."""
    child = os.fork()
    if child == 0:
        try:
            run(folder, checkpoint_every)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if patience is not None:
        time.sleep(patience)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        sys.exit(f"the run failed in {folder}")
    return os.WIFEXITED(status)


def outcome(folder: Path) -> tuple:
    record = read_run(folder)
    events = [
        {k: v for k, v in event.items() if k not in ("time", "seconds")}
        for event in record.events
        if event["event"] != "resumed"
    ]
    files = [(folder / f"{name}.safetensors").read_bytes() for name in ("before", "weights")]
    return events, timeless(record.result), files


def main() -> None:
    torch.set_num_threads(1)
    chance = random.Random(20240229)
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # a kill is no power cut
    with tempfile.TemporaryDirectory(dir=memory) as place:
        whole = Path(place) / "whole"
        began = time.monotonic()
        forked(whole, 3, None)
        usual = time.monotonic() - began
        expected = outcome(whole)
        for trial in range(3):
            folder, kills = Path(place) / str(trial), 0
            every = chance.choice([1, 2, 7])
            while not forked(
                folder, every, usual * chance.uniform(0.05, 0.7) if kills < 3 else None
            ):
                kills += 1
            if outcome(folder) != expected:
                sys.exit(f"trial {trial}, {kills} kills: the run ended differently")
            left = [path.name for path in folder.iterdir() if path.name.startswith(".tmp")]
            if left:
                sys.exit(f"left behind: {left}")
            print("kills", kills, "checkpoint every", every, flush=True)


if __name__ == "__main__":
    main()
