"""Keep what comparisons came to: every run that has ended, with its settings, seed, versions and hardware.

    espalier compare benchmarks/recipes/claims_300x/*.yaml --out runs/claims_300x
    python benchmarks/gather.py runs/claims_300x …          # into benchmarks/results/compared.json

A run that is there already, of the same settings and seed, is replaced. ``benchmarks/tables.py`` then writes
the tables of ``docs/results.md``.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from espalier.runs import RunRecord, read_run

RESULTS = Path(__file__).parent / "results" / "compared.json"

DECIDE = ("data", "plan", "solver", "training", "retrain", "stages", "goal", "probe")
"""Sections of a recipe that decide what comes out of a run; the model and pretraining are told apart by names."""
FREE = ("seed", "device", "threads")
"""Settings of training that are a run's own."""


def deciding(recipe: dict[str, Any]) -> dict[str, Any]:
    """What must be alike for two runs to differ in their seed alone; paths to data left out."""
    chosen = {name: recipe.get(name) for name in DECIDE}
    data = recipe.get("data") or {}
    training = {k: v for k, v in recipe["training"].items() if k not in FREE}
    return {**chosen, "data": {**data, "path": None}, "training": training}


def alike(was: Any, now: Any) -> bool:
    """Whether settings agree; those that only one of them has were added or taken out since, at their default."""
    if isinstance(was, dict) and isinstance(now, dict):
        return all(alike(was[key], now[key]) for key in was.keys() & now.keys())
    return bool(was == now)


def row(name: str, label: str, run: RunRecord) -> dict[str, Any] | None:
    """One run of a comparison; None if it has not ended, or was judged on held-out data: tables are of test images."""
    result = run.result
    if result is None or result.split != "test":
        return None
    epochs = [event for event in run.events if event["event"] == "epoch"]
    curve = {
        str(event["epoch"]): event["hard_pruned"][result.goal.name]
        for event in epochs
        if event["phase"] == "prune" and event["hard_pruned"]
    }
    count = result.counts["conv_fc_weights"]
    return {
        "comparison": name, "label": label, "seed": run.config["seed"],
        "model": run.config["recipe"]["model"]["name"], "method": result.method,
        "settings": deciding(run.config["recipe"]), "goal": result.goal.name,
        **{stage: result.figure(stage) for stage in ("dense", "hard_pruned", "hard_pruned_bn", "retrained")},
        "curve": curve, "nonzero": count.nonzero, "compression": count.compression,
        "epochs": result.pruning_epochs,
        "outcome": result.outcome,
        **{key: run.config[key] for key in ("versions", "hardware", "git_commit")},
    }  # fmt: skip


def gathered(folder: Path) -> list[dict[str, Any]]:
    """The runs of one comparison."""
    found = []
    for path in sorted(folder.glob("*-seed*")):
        label = path.name.rpartition("-seed")[0]
        found.append(row(folder.name, label, read_run(path)))
    return [one for one in found if one is not None]


def key(one: dict[str, Any]) -> str:
    """Runs with the same key are the same run, measured again."""
    parts = [one[name] for name in ("comparison", "label", "seed", "model", "settings")]
    return json.dumps(parts, sort_keys=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    rows = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    held = {key(one): one for one in rows}
    for folder in parser.parse_args().folders:
        new = gathered(folder)
        held |= {key(one): one for one in new}
        print(f"{folder}: {len(new)} runs")
    RESULTS.write_text(json.dumps({"rows": list(held.values())}, indent=1) + "\n")


if __name__ == "__main__":
    main()
