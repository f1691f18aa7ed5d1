"""Runs that are killed again and again and taken up each time: do they end with the same bytes, and nothing left over?

    python benchmarks/kills.py --kills 240     # into benchmarks/results/kills.json, the kinds that are run anew

Every kind of recipe that is shipped, on the digits that come with a package and shortened. A run is a process of its
own, killed by SIGKILL: half of the times at a random moment of the clock, half of the times at a random one of its
writes: before a file is opened for writing, in the middle of its bytes, before they are flushed to the disk, before it
is renamed into its place. Then ``--resume``, until it ends.

Compared with a run that nobody killed: weights, plan, bits, snapshots byte for byte, events and results without
what the clock says. A latency budget is measured, and no two measurements are alike: there the run that nobody
killed is given the plan.yaml that the killed one wrote first.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from espalier._ground.environment import hardware, versions
from espalier.cli import main as command_line
from espalier.compare import _running as comparing
from espalier.recipe import load
from espalier.recipe._running import Job

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "kills.json"
SEED = 20240517
PATIENCE = 12
"""Kills of one run, after which it is left to end."""

EPOCHS = {"pretrain": 1, "training": 2, "retrain": 1, "quantise": 1}
BITS = {"epochs": 1, "freeze": {"epochs": 1, "rounds": 3}, "bits": 2}
STAGES = [
    {"name": "dense", "epochs": 1},
    {"name": "prune", "epochs": 2, "method": {"method": "admm", "cadence": 3}, "cut": True},
    {"name": "again", "epochs": 1, "start": {"rewind": {"stage": "dense", "step": 4}}},
]
# Recipe, what is changed in it (None: left out), and the command.
KINDS: dict[str, tuple[str, dict[str, Any], str]] = {
    "plain": ("lenet5-mnist-85.2x", {}, "prune"),
    "quantise": ("lenet5-mnist-301x-3-bits", {"quantise": BITS}, "prune"),
    "bits searched": ("lenet5-mnist-301x-3-bits",
                      {"quantise": {"epochs": 1, "search": {"guard": 0.1}}}, "prune"),
    "latency": ("digits-demo", {"plan": {"latency": 0.6, "set": "filters"}, "pretrain": None}, "prune"),
    "latency after pretraining": ("digits-demo", {"plan": {"latency": 0.6, "set": "filters"}}, "prune"),
    "filters and columns": ("p-rm-lenet5-mnist-90x", {}, "prune"),
    "lottery ticket": ("lottery-ticket-lenet5-mnist-12x",
                       {"solver": {"method": "lottery_ticket", "rounds": 2}}, "prune"),
    "stages": ("lottery-ticket-lenet5-mnist-12x", {"solver": None, "stages": STAGES}, "prune"),
    "L0": ("l0-digits", {}, "prune"),
    "RDA": ("rda-lenet5-mnist", {"solver": {"method": "rda", "l1": 1e-3, "start": 5}}, "prune"),
    "RigL": ("rigl-lenet5-mnist", {"solver": {"method": "rigl", "cadence": 3}}, "prune"),
    "compare": ("digits-demo", {}, "compare"),
}  # fmt: skip


@dataclass
class Tally:
    """What came of one kind of recipe."""

    kills: int = 0
    in_writes: int = 0
    runs: int = 0
    different: list[str] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)
    seconds: int = 0


def written(kind: str, place: Path) -> Path:
    """The recipe of a kind, shortened, as a file."""
    name, changes, _ = KINDS[kind]
    content = yaml.safe_load((ROOT / "recipes" / f"{name}.yaml").read_text()) | changes
    content = {key: value for key, value in content.items() if value is not None}
    content["data"] = {"name": "digits", "limit_train": 192, "limit_test": 100}
    for section in EPOCHS.keys() & content.keys():
        content[section]["epochs"] = EPOCHS[section]
    content["training"] |= {"batch_size": 32, "threads": 1}
    content["checkpoint"] = {"steps": 4}
    content["evaluate_every"] = 1
    path = place / f"{kind.replace(' ', '-')}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def arguments(kind: str, recipe: Path, folder: Path) -> list[str]:
    if KINDS[kind][2] == "compare":
        return ["compare", str(recipe), "--out", str(folder)]
    return ["prune", str(recipe), "--out", str(folder), "--resume"]


def watch_writes(folder: Path, moment: Callable[[], bool]) -> None:
    """From now on ``moment`` is asked at every step of a write into a folder whether to die there."""
    inside, fsync, write_bytes = str(folder), os.fsync, Path.write_bytes

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, given: tuple[Any, ...]) -> None:
        writes = event in ("os.rename", "os.remove", "os.mkdir")
        if event == "open":
            writes = bool(int(given[2] or 0) & (os.O_WRONLY | os.O_RDWR))
        if writes and str(given[0]).startswith(inside) and moment():
            die()

    def flushed(descriptor: int) -> None:
        if moment():
            die()
        fsync(descriptor)

    def half(path: Path, content: bytes) -> int:
        if str(path).startswith(inside) and moment():
            write_bytes(path, content[: len(content) // 2])
            die()
        return write_bytes(path, content)

    sys.addaudithook(hook)
    os.fsync, Path.write_bytes = flushed, half  # type: ignore[assignment]


def attempt(
    words: list[str], folder: Path, at: int | None = None, patience: float | None = None
) -> tuple[bool, int]:
    """Run a command in a process that may be killed; whether it got to the end, and its writes' moments.

    Args:
        words: Of the command line.
        folder: What it writes into.
        at: The moment of a write at which it dies.
        patience: Seconds after which it is killed.
    """
    log = folder.with_suffix(".log")
    child = os.fork()
    if child == 0:
        seen = 0

        def moment() -> bool:
            nonlocal seen
            seen += 1
            return seen == at

        status = 1
        try:
            with open(log, "w") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
                watch_writes(folder, moment)
                status = command_line(words)
                folder.with_suffix(".moments").write_text(str(seen))
        except BaseException:
            traceback.print_exc()
        os._exit(status)
    if patience is not None:
        time.sleep(patience)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        if os.WEXITSTATUS(status):
            sys.exit(f"{' '.join(words)}\n{log.read_text()}")
        return True, int(folder.with_suffix(".moments").read_text())
    return False, 0


_CLOCK = {"time", "seconds", "step_seconds", "wall_seconds", "arguments", "git_commit"}
"""Keys whose values are of the clock or of the command."""


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: timeless(one) for key, one in value.items() if key not in _CLOCK}
    return [timeless(one) for one in value] if isinstance(value, list) else value


def evidence(folder: Path) -> dict[str, Any]:
    """By name what a run left, without what the clock says, checkpoints and what is only written for people."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        if path.suffix in (".json", ".jsonl"):
            text = path.read_text().replace(str(folder), "FOLDER")
            lines = text.splitlines() if path.suffix == ".jsonl" else [text]
            said = [timeless(json.loads(line)) for line in lines]
            found[name] = [one for one in said if one.get("event") != "resumed"]
        elif path.stem in ("checkpoint", "previous", "lock", "report"):
            found[name] = "there"  # a checkpoint carries the clock
        else:
            found[name] = path.read_bytes().replace(str(folder).encode(), b"FOLDER")
    return found


def reference(kind: str, recipe: Path, place: Path, killed: Path | None) -> tuple[Path, int, float]:
    """A run that nobody killed, its writes' moments and its seconds; with the plan of ``killed``, if one is given."""
    folder = place / f"whole-{len(list(place.iterdir()))}"
    if killed is not None:
        shutil.copytree(killed, folder)
    began = time.monotonic()
    _, moments = attempt(arguments(kind, recipe, folder), folder)
    return folder, moments, time.monotonic() - began


def planned_only(folder: Path, kept: Path) -> None:
    """Once there is a plan: the folder as a run that had come so far and no further would have left it."""
    if (folder / "plan.yaml").is_file() and not kept.exists():
        kept.mkdir()
        for name in ("recipe.yaml", "config.json", "plan.yaml"):
            shutil.copy(folder / name, kept / name)


def trial(
    kind: str,
    recipe: Path,
    place: Path,
    usual: tuple[Path, int, float],
    chance: random.Random,
    tally: Tally,
) -> None:
    """One run, killed until its patience is over; then compared."""
    whole, moments, seconds = usual
    folder = place / f"{recipe.stem}-{tally.runs}"
    kept = place / f"{recipe.stem}-{tally.runs}-planned"
    measured, ended, kills = kind.startswith("latency"), False, 0
    while not ended:
        at = patience = None
        # To measure takes longer than all the rest: until it is written down, only writes are awaited.
        if kills < PATIENCE and (chance.random() < 0.5 or (measured and not kept.exists())):
            at = chance.randint(1, max(2, moments // 2))
        elif kills < PATIENCE:
            patience = chance.uniform(0.05, 0.6) * seconds
        ended, _ = attempt(arguments(kind, recipe, folder), folder, at, patience)
        kills += not ended
        tally.in_writes += at is not None and not ended
        if measured:
            planned_only(folder, kept)
    tally.kills, tally.runs = tally.kills + kills, tally.runs + 1
    if measured and kept.exists():
        whole, _, _ = reference(kind, recipe, place, kept)
    elif measured:
        return  # it ended before it was killed: there is nothing to compare it with
    expected, found = evidence(whole), evidence(folder)
    tally.stray += sorted(found.keys() - expected.keys())
    tally.different += sorted(name for name in expected if expected[name] != found.get(name))
    shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=240, help="at least so many, over all kinds")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    comparing._overheads = (
        lambda *_: {}
    )  # what a method adds to a step is measured: the clock again
    torch.set_num_threads(1)  # a process with threads is no good parent
    chance = random.Random(SEED)
    tallies = {}
    if given.out.exists():
        kept = json.loads(given.out.read_text())["kinds"]
        tallies = {kind: Tally(**kept[kind]) for kind in KINDS if kind in kept}
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # a kill is no power cut
    for kind in given.kinds:
        tally = tallies[kind] = Tally()
        kind_began = time.monotonic()
        with tempfile.TemporaryDirectory(dir=memory) as temporary:
            place = Path(temporary)
            recipe = written(kind, place)
            Job.prepare(*load(recipe))  # what is imported here, no child has to import
            usual = reference(kind, recipe, place, None)
            while tally.kills < given.kills / len(given.kinds):
                trial(kind, recipe, place, usual, chance, tally)
        tally.seconds = round(time.monotonic() - kind_began)
        print(f"{kind}: {tally}", flush=True)
        total = {
            "kills": sum(one.kills for one in tallies.values()),
            "in_writes": sum(one.in_writes for one in tallies.values()),
            "runs": sum(one.runs for one in tallies.values()),
            "different": sum(len(one.different) for one in tallies.values()),
            "stray": sum(len(one.stray) for one in tallies.values()),
        }
        given.out.write_text(
            json.dumps(
                {
                    "seed": SEED,
                    "versions": versions("espalier", "torch", "numpy", "safetensors"),
                    "hardware": hardware(), "total": total,
                    "kinds": {name: vars(one) for name, one in tallies.items()},
                },
                indent=1,
            ) + "\n"
        )  # fmt: skip
    print(
        f"{total['kills']} kills, {total['in_writes']} of them in writes, over {total['runs']} runs: "
        f"{total['different']} different files, {total['stray']} stray files"
    )
    sys.exit(bool(total["different"] or total["stray"]))


if __name__ == "__main__":
    main()
