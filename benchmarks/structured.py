"""Structured pruning, from recipe to compact model: what finished runs came to.

    espalier prune recipes/resnet56-cifar10-50pct-macs.yaml --out RUN
    python benchmarks/structured.py RUN … [--purify GUARD] [--latency]
    python benchmarks/structured.py RUN --finetune EPOCHS

For each run folder: its accuracies, the compact model and its proof, the same after purification (P-RM), and latency
against the dense model, interleaved, in one run. Kept in results/structured.json under the recipe's title.
``--finetune`` adds to that row: the compact model, trained on (SGD 0.02, momentum 0.9, weight decay 5e-4, cosine).
"""

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import yaml

import espalier as esp
from espalier.recipe._running import reopened

RESULT = Path(__file__).parent / "results" / "structured.json"


def espalier(*arguments: str) -> Any:
    command = [sys.executable, "-m", "espalier.cli", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    return json.loads(done.stdout)


def accuracy(metrics: dict[str, float] | None) -> float | None:
    return None if metrics is None else round(metrics["accuracy"], 5)


def summary(run: Path, guard: float | None, latency: bool) -> dict[str, Any]:
    result = json.loads((run / "result.json").read_text())
    plan = yaml.safe_load((run / "plan.yaml").read_text())
    row = {
        "accuracy": {
            name: accuracy(result[name])
            for name in ("dense", "hard_pruned", "hard_pruned_bn", "retrained")
        },
        "epochs": result["epochs"],
        "counts": result["counts"],
        "keep": {
            name: entry["keep"]
            for name, entry in plan["parameters"].items()
            if len(entry["shape"]) > 1
        },
        "compact": compact(run),
    }
    if guard is not None:
        row["purified"] = compact(run, "--purify", "--guard", str(guard), "--gather", "1")
    if latency:
        found = espalier("measure", str(run), "--latency")
        row["latency"] = found.get("latency", found)
    return row


def compact(run: Path, *more: str) -> dict[str, Any]:
    found = espalier("compact", str(run), *more, "--out", str(run / "benchmark.espalier"))
    kept = ("before", "after", "removed", "proof", "metrics", "purification")
    return {name: found[name] for name in kept if name in found}


def finetuned(run: Path, epochs: int) -> dict[str, Any]:
    job, model = reopened(run)
    small = esp.compact(model, job.task.example_input).model
    optimizer = torch.optim.SGD(
        small.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    steps = epochs * job.task.steps_per_epoch
    fitted = esp.fit(
        small, job.task, optimizer=optimizer, epochs=epochs, evaluate_every=epochs,
        scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps),
        autocast=torch.bfloat16, phase="finetune",
    )  # fmt: skip
    return {"epochs": epochs, "accuracy": round(job.task.evaluate(small)["accuracy"], 5)} | {
        "seconds": round(fitted.seconds)
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--purify", type=float, metavar="GUARD")
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--finetune", type=int, metavar="EPOCHS")
    options = parser.parse_args()
    for run in options.runs:
        recipe = yaml.safe_load((run / "recipe.yaml").read_text())
        table = json.loads(RESULT.read_text()) if RESULT.exists() else {}
        if options.finetune:
            found = {"finetuned": finetuned(run, options.finetune)}
            table = json.loads(RESULT.read_text())  # others may have written meanwhile
            table[recipe["title"]] |= found
            RESULT.write_text(json.dumps(table, indent=1) + "\n")
            print(recipe["title"], found, flush=True)
            continue
        row = summary(run, options.purify, options.latency)
        row |= {
            "seed": recipe["training"].get("seed", 0),
            "torch": torch.__version__,
            "machine": platform.processor() or platform.machine(),
        }
        table[recipe["title"]] = row
        RESULT.write_text(json.dumps(table, indent=1) + "\n")
        print(recipe["title"], json.dumps(row["accuracy"]), flush=True)


if __name__ == "__main__":
    main()
