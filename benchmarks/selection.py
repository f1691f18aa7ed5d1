"""Exact selection against ``torch.topk`` and a scatter: python benchmarks/selection.py [--units N].

Both make the same boolean mask of the largest ``density`` of N scores. They take turns in one
process, so that whatever else the machine does falls on both; the median of the turns is reported.
Writes ``results/selection.json`` beside this file.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from espalier.sets._select import largest

SEED = 0
DENSITIES = (0.01, 0.1, 0.5)
INPUTS = {
    "normal": lambda x: x.abs(),
    "70 % zeros": lambda x: x.abs().sub(1.0364).relu(),
    "constant": torch.ones_like,
}


def topk_and_scatter(scores: Tensor, keep: int) -> Tensor:
    mask = torch.zeros_like(scores, dtype=torch.bool)
    return mask.scatter_(0, scores.topk(keep, sorted=False).indices, True)


def seconds(select, scores: Tensor, keep: int) -> float:
    begin = time.perf_counter()
    mask = select(scores, keep)
    elapsed = time.perf_counter() - begin
    assert int(mask.sum()) == keep
    return elapsed


def measure(scores: Tensor, keep: int, turns: int) -> tuple[float, float]:
    pairs = [
        (seconds(largest, scores, keep), seconds(topk_and_scatter, scores, keep))
        for _ in range(turns + 1)
    ][1:]  # the first turn warms up
    return median(ours for ours, _ in pairs), median(theirs for _, theirs in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=10_000_000)
    parser.add_argument("--turns", type=int, default=7)
    arguments = parser.parse_args()

    normal = torch.randn(arguments.units, generator=torch.Generator().manual_seed(SEED))
    rows = []
    print(f"{'scores':12} {'threads':>7} {'density':>7} {'ours ms':>8} {'topk ms':>8} {'ratio':>6}")
    for threads in sorted({1, os.cpu_count() or 1}):
        torch.set_num_threads(threads)
        for name, make in INPUTS.items():
            scores = make(normal)
            for density in DENSITIES:
                keep = round(density * arguments.units)
                ours, theirs = measure(scores, keep, arguments.turns)
                ratio = theirs / ours
                print(
                    f"{name:12} {threads:7} {density:7} {ours * 1e3:8.1f} {theirs * 1e3:8.1f} "
                    f"{ratio:6.2f}"
                )
                rows.append(
                    {
                        "scores": name,
                        "threads": threads,
                        "density": density,
                        "largest_seconds": round(ours, 5),
                        "topk_seconds": round(theirs, 5),
                        "topk_over_largest": round(ratio, 2),
                    }
                )
    result = {
        "units": arguments.units,
        "turns": arguments.turns,
        "seed": SEED,
        "dtype": "float32",
        "statistic": "median of interleaved turns",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cpu": platform.machine() + " " + cpu(),
        "cpus": os.cpu_count(),
        "load_average": round(os.getloadavg()[1], 1),  # over the last five minutes
        "rows": rows,
    }
    path = Path(__file__).parent / "results" / "selection.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


def cpu() -> str:
    """The processor's own name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "unknown")


if __name__ == "__main__":
    main()
