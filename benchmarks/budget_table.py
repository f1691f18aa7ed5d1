"""The table of ``results/budgets.json``: one solver, one compression, and the budgets beside one another."""

import json
import statistics
from pathlib import Path

from markup import markdown

RESULTS = Path(__file__).parent / "results" / "budgets.json"
NAMES = {
    "uniform": "uniform", "erk": "ERK", "global": "global magnitude, once", "shared": "shared, live",
    "sensitivity": "sensitivity scan", "amc": "AMC", "random": "random search", "autoprune": "AutoPrune's densities",
    "shadow": "shadow prices",
}  # fmt: skip


def budgets_table() -> str:
    """One row a budget: the weights of each layer, and the accuracy as cut by each solver over the seeds."""
    rows = json.loads(RESULTS.read_text())["rows"]
    heads = ["budget", "conv1 / conv2 / fc1 / fc2 left (seed 0, SLR)", "looks at images"]
    for word in ("SLR", "gradual"):
        heads += [f"{word}, %: median (range)", f"{word}, minus uniform: mean (range)"]
    of = {(r["budget"], r["solver"], r["seed"]): r for r in rows}
    seeds = sorted({r["seed"] for r in rows})
    lines = []
    for name, title in NAMES.items():
        first = of.get((name, "slr", seeds[0]))
        if first is None:
            continue
        line = [title, " / ".join(f"{n:,}" for n in first["left"].values()), _looked(name)]
        for solver in ("slr", "gradual"):
            own = [100 * of[name, solver, s]["accuracy"] for s in seeds if (name, solver, s) in of]
            less = [
                100 * (of[name, solver, s]["accuracy"] - of["uniform", solver, s]["accuracy"])
                for s in seeds
                if (name, solver, s) in of and ("uniform", solver, s) in of
            ]
            line.append(
                f"{statistics.median(own):.2f} ({min(own):.2f}–{max(own):.2f})" if own else "–"
            )
            line.append(
                f"{statistics.mean(less):+.2f} ({min(less):+.2f} to {max(less):+.2f})"
                if less
                else "–"
            )
        lines.append(line)
    return markdown(heads, lines)


def _looked(name: str) -> str:
    if name in ("amc", "random"):
        return "100 × 1,000"
    if name == "sensitivity":
        return "41 × 1,000"
    return "a training of its own" if name == "autoprune" else "–"
