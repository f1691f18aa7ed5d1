"""The tables of ``structured_field.jsonl`` and ``speed.json``."""

import json
import statistics
from pathlib import Path
from typing import Any

from markup import markdown, percent

RESULTS = Path(__file__).parent / "results"


def field_table() -> str:
    """One row for each model, budget and contestant: medians and ranges over seeds, judged on the test set."""
    rows = []
    for alike in _together([run for run in _runs() if not run["held_out"]]):
        first = alike[0]
        seconds = [sum(run["seconds"].values()) for run in alike]
        rows.append(
            [
                first["model"], f"{100 * first['macs_asked']:.0f} %", first["contestant"],
                " + ".join(map(str, first["epochs"])),
                percent([run["macs"] / run["macs_dense"] for run in alike]),
                *(percent([run[stage] for run in alike]) for stage in ("cut_bn", "tuned")),
                f"{statistics.median(seconds):.0f}", str(len(alike)),
            ]
        )  # fmt: skip
    heads = ["model", "asked", "contestant", "epochs of pruning + fine-tuning", "MACs left, %"]
    heads += ["as cut, %", "fine-tuned, %", "seconds", "seeds"]
    return markdown(heads, rows)


def settings_table() -> str:
    """The runs on training images held out, by which settings were chosen."""
    rows = []
    for alike in _together([run for run in _runs() if run["held_out"]]):
        for run in alike:
            said = [*(run["ranking"] or []), f"fine-tuning at {run['tune_lr']:g}"]
            said += [] if run["reg"] is None else [f"reg {run['reg']:g}"]
            trained = sum(run["epochs"]) > 0
            rows.append(
                [
                    run["contestant"], ", ".join(said), " + ".join(map(str, run["epochs"])),
                    f"{run['images'] or 50_000 - run['held_out']:,}", percent([run["cut_bn"]]),
                    percent([run["tuned"]]) if trained else "–",
                ]
            )  # fmt: skip
    heads = ["contestant", "settings", "epochs", "images", "as cut, %"]
    return markdown([*heads, "fine-tuned, %"], rows)


def speed_table() -> str:
    """Milliseconds and speed-ups of ``speed.json``."""
    rows = []
    for name, found in json.loads((RESULTS / "speed.json").read_text()).items():
        for row in found["rows"]:
            low, middle, high = row["speedup"]
            rows.append(
                [name, row["form"], str(row["batch"]), f"{100 * row['macs']:.0f} %",
                 f"{1000 * row['seconds']:.1f}", f"{middle:.2f} ({low:.2f}–{high:.2f})", found["clock"]]
            )  # fmt: skip
    heads = ["model", "form", "batch", "MACs", "ms a call", "× dense (quartiles)", "clock"]
    return markdown(heads, rows)


def _runs() -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in (RESULTS / "structured_field.jsonl").read_text().splitlines()
    ]


def _together(runs: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Runs that differ in their seed alone, in the order in which they came."""
    told = (
        "model",
        "macs_asked",
        "contestant",
        "epochs",
        "tune_lr",
        "reg",
        "ranking",
        "set",
        "held_out",
        "images",
    )
    found: dict[str, list[dict[str, Any]]] = {}
    for run in sorted(runs, key=lambda run: (run["model"], run["macs_asked"])):
        found.setdefault(json.dumps([run[name] for name in told]), []).append(run)
    return list(found.values())
