"""Files made wrong, by the thousand, at every reader: ``make fuzz``.

A case passes if it is read, or refused by an error of :mod:`espalier.errors`, within five seconds of processor
time and 500 MB. It is made from (seed, reader, number) alone, so a campaign can be repeated; the bytes of a case
that fails are kept, and ``python -m fuzz.campaign --replay FILE`` (in ``tests``) reads them again.

Each reader's cases run in a process of their own, which the system ends when a case takes too long: nothing in
Python can end a loop in a library. Whatever ended it, the campaign goes on behind that case.
"""

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

_TESTS = Path(__file__).parents[1]

KNOWN = "known"
"""The files that have done harm, in place of a reader's name."""

SECONDS, HANGING, MEGABYTES = 5.0, 60.0, 500
NAMES = {
    "plan.yaml": 3000, "recipe.yaml": 2000, "net.espalier": 2500, "checkpoint.safetensors": 1500,
    "weights.safetensors": 2000, "net.packed": 3000, "config.json": 1200, "result.json": 1600,
    "metrics.jsonl": 1600, "images.idx": 1200, "batch.bin": 600, "image.png": 1800,
}  # fmt: skip
"""Cases of each reader in a whole campaign, 22,000 in all."""


def reader_of(name: str) -> Any:
    """A reader; importing and making it takes seconds, which a campaign's own process spares itself."""
    from fuzz.readers import reader

    return reader(name)


def case(seed: int, name: str, number: int) -> tuple[str, bytes]:
    """What reads a case, and its bytes."""
    from fuzz.hostile import HOSTILE

    if name == KNOWN:
        which, make = list(HOSTILE.values())[number]
        return which, make()
    return name, reader_of(name).case(random.Random(f"{seed}/{name}/{number}"))


def known() -> int:
    """How many files there are that have done harm."""
    from fuzz.hostile import HOSTILE

    return len(HOSTILE)


def read(name: str, path: Path) -> str:
    """What is wrong with the way in which a file is taken; nothing if it is read or refused."""
    from espalier.errors import EspalierError

    reading = reader_of(name)
    before, began = _memory(reset=True), time.process_time()
    try:
        reading.read(path)
        said = ""
    except EspalierError as error:
        said = "" if len(str(error)) < 4000 else f"a message of {len(str(error)):,} characters"
    except MemoryError:
        said = f"more than {MEGABYTES} MB of memory"
    except Exception:
        said = traceback.format_exc()
    seconds, more = time.process_time() - began, _memory() - before
    if seconds > SECONDS:
        said += f"\n{seconds:.1f} seconds"
    if more > MEGABYTES << 20:
        said += f"\n{more >> 20} MB"
    return said.strip()


def _memory(reset: bool = False) -> int:
    """Bytes of the most memory that the process had in use since the last reset; now, after one."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    except (OSError, IndexError):  # not Linux: the peak of the whole process, which never falls
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def child(seed: int, name: str, first: int, last: int, report: Path) -> None:
    """Cases ``first`` to ``last`` − 1; a line of ``report`` for each that begins, and for each that failed."""
    import warnings

    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    case(seed, name, first)
    # Twice what is allowed, in addresses: enough for all that passes, and it spares the machine the rest.
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + (2 * MEGABYTES << 20),) * 2)
    peak = 0
    with tempfile.TemporaryDirectory() as folder, open(report, "a", encoding="utf-8") as out:
        for number in range(first, last):
            print(json.dumps({"began": number}), file=out, flush=True)
            which, content = case(seed, name, number)
            path = Path(folder) / which
            path.write_bytes(content)
            signal.setitimer(
                signal.ITIMER_PROF, 2 * SECONDS
            )  # ends the process, whatever it is doing
            signal.setitimer(signal.ITIMER_REAL, HANGING)
            before, began = _memory(reset=True), time.process_time()
            said = read(which, path)
            peak = max(peak, _memory() - before)
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
            if said:
                print(json.dumps({"failed": number, "said": said}), file=out, flush=True)
            slow = time.process_time() - began
            print(json.dumps({"peak": peak, "slow": slow}), file=out, flush=True)


def campaign(cases: dict[str, int], seed: int, folder: Path) -> dict[str, Any]:
    """All cases; what failed is kept in ``folder``."""
    failed: list[str] = []
    peak, slowest, began = 0, 0.0, time.monotonic()
    for name, count in cases.items():
        first, reader_peak, reader_began = 0, 0, time.monotonic()
        before = len(failed)
        while first < count:
            with tempfile.TemporaryDirectory() as place:
                report = Path(place) / "report"
                report.touch()
                own = ["--child", name, str(seed), str(first), str(count), str(report)]
                ended = subprocess.run(
                    [sys.executable, "-m", "fuzz.campaign", *own], cwd=_TESTS, check=False
                )
                lines = [json.loads(line) for line in report.read_text("utf-8").splitlines()]
            starts = [line["began"] for line in lines if "began" in line]
            reader_peak = max([reader_peak, *(line["peak"] for line in lines if "peak" in line)])
            slowest = max([slowest, *(line["slow"] for line in lines if "slow" in line)])
            wrong = [line for line in lines if "failed" in line]
            failed += [_kept(folder, seed, name, line["failed"], line["said"]) for line in wrong]
            if ended.returncode == 0:
                break
            if not starts:
                failed.append(f"{name}: could not begin")
                break
            failed.append(_kept(folder, seed, name, starts[-1], _ending(ended.returncode)))
            first = starts[-1] + 1
        peak = max(peak, reader_peak)
        print(f"{name:24} {count:6,} cases {time.monotonic() - reader_began:6.0f} s "
              f"{reader_peak >> 20:5} MB {len(failed) - before:4} failed", flush=True)  # fmt: skip
    return {
        "cases": sum(cases.values()), "seconds": time.monotonic() - began, "peak": peak,
        "slowest": slowest, "failed": failed,
    }  # fmt: skip


def _ending(status: int) -> str:
    ends = {
        -signal.SIGPROF: f"more than {2 * SECONDS:.0f} s of processor time",
        -signal.SIGALRM: f"more than {HANGING:.0f} s, waiting",
        -signal.SIGSEGV: "segmentation fault",
    }
    return ends.get(status, f"the process ended with status {status}")


def _kept(folder: Path, seed: int, name: str, number: int, said: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    which, content = case(seed, name, number)
    path = folder / f"{seed}-{number}-{which}"
    path.write_bytes(content)
    last = said.splitlines()[-1] if said else ""
    print(
        f"FAILED {name} {number}: {said[-1500:]}\n  again: python -m fuzz.campaign --replay {path}",
        flush=True,
    )
    return f"{path}: {last}"


def replay(path: Path) -> int:
    """One kept file, read again."""
    name = path.name.split("-", 2)[-1]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / name
        copy.write_bytes(path.read_bytes())
        said = read(name, copy)
    print(said or "read, or refused as it should be")
    return int(bool(said))


def main(arguments: list[str]) -> int:
    """The campaign from the command line; 1 if a case failed."""
    if arguments[:1] == ["--child"]:
        name, seed, first, last, report = arguments[1:]
        child(int(seed), name, int(first), int(last), Path(report))
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="of the cases of a whole campaign")
    parser.add_argument("--only", choices=[KNOWN, *NAMES])
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--replay", type=Path, metavar="FILE")
    asked = parser.parse_args(arguments)
    if asked.replay:
        return replay(asked.replay)
    cases = {KNOWN: known()} if asked.only in (None, KNOWN) else {}
    cases |= {
        n: max(1, round(c * asked.share)) for n, c in NAMES.items() if asked.only in (None, n)
    }
    done = campaign(cases, asked.seed, asked.out)
    print(f"{done['cases']:,} cases, {done['seconds']:.0f} s, peak memory {done['peak'] >> 20} MB, "
          f"slowest {done['slowest']:.1f} s, {len(done['failed'])} failed")  # fmt: skip
    return int(bool(done["failed"]))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main(sys.argv[1:]))
