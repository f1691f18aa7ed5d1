"""Write the tables of ``docs/results.md`` from the committed result files.

    python benchmarks/tables.py            # rewrites what stands between the markers of the page
    python benchmarks/tables.py --check    # exit status 1 if that would change it

A marker is ``<!-- table NAME -->`` … ``<!-- end -->``, NAME being a grid of ``benchmarks/grids``,
``overhead``, ``selection``, ``structured``, ``structured_latency``, ``widths``, ``break_even`` or
``families``.
"""

import argparse
import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "results.md"
HEADINGS = {
    "keep": "compression", "until": "budget closes at", "settle": "settles at", "rho": "ρ", "step": "s⁰",
    "decoupled": "pull decoupled", "lr": "learning rate",
}  # fmt: skip


def percent(values: list[float]) -> str:
    """Median, and the range where there are several."""
    middle = f"{100 * statistics.median(values):.2f}"
    return (
        middle
        if len(values) == 1
        else f"{middle} [{100 * min(values):.2f}, {100 * max(values):.2f}]"
    )


def markdown(heads: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def grid_table(name: str) -> str:
    """One row a line of the grid: what differs between the lines, then what came of it."""
    text = (HERE / "grids" / f"{name}.jsonl").read_text().splitlines()
    lines: list[dict[str, Any]] = [json.loads(line) for line in text if line.startswith("{")]
    found = [
        json.loads(line)
        for line in (HERE / "results" / "level_field.jsonl").read_text().splitlines()
    ]
    found = [run for run in found if "error" not in run]
    keys = [
        k
        for k in dict.fromkeys(k for line in lines for k in line)
        if len({str(x.get(k)) for x in lines}) > 1
    ]
    keys = ["method", *(k for k in keys if k not in {"method", "retrain", "metric"})]
    rows = []
    for line in lines:
        wanted = {k: v for k, v in line.items() if k != "retrain"}
        runs = [r for r in found if _is(r["settings"], wanted, lines)]
        if not runs:
            continue
        runs = list({r["settings"]["seed"]: r for r in runs}.values())
        early = [r["curve"]["2"] for r in runs if "2" in r["curve"]]
        again = [r["retrained"] for r in runs if r["retrained"] is not None]
        rows.append(
            [_said(line.get(k)) for k in keys]
            + [percent(early) if early else "—", percent([r["hard_pruned"] for r in runs])]
            + ([percent(again) if again else "—"] if any("retrain" in x for x in lines) else [])
            + [
                str(len(runs)),
                percent([r["dense"] for r in runs if "dense" in r] or [float("nan")]),
            ]
        )
    heads = [HEADINGS.get(k, k) for k in keys] + ["cut after epoch 2, %", "cut at the end, %"]
    heads += ["retrained, %"] if any("retrain" in x for x in lines) else []
    return markdown([*heads, "seeds", "dense before, %"], rows)


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "—" if value is None else str(value)


def _is(settings: dict[str, Any], wanted: dict[str, Any], lines: list[dict[str, Any]]) -> bool:
    """A run of this line: what the line says, and the centre of the field in all else."""
    if any(settings.get(k) != v for k, v in wanted.items()):
        return False
    centre = {"problem": "lenet5-mnist", "until": None, "settle": None, "metric": "identity", "decoupled": False,
              "epochs": 12, "rho": 0.1, "step": 0.01, "cadence": 20, "lr": 1e-3, "keep": "85.2x", "batch": 128,
              "printed": False, "M": 300.0, "r": 0.1}  # fmt: skip
    return all(settings.get(k) == v for k, v in centre.items() if k not in wanted)


def overhead_table() -> str:
    """Step-time ratio and memory of ``overhead.json``."""
    rows = json.loads((HERE / "results" / "overhead.json").read_text())["rows"]
    heads = [
        "model",
        "solver",
        "cadence",
        "step time, solver / dense",
        "quartiles of neighbouring blocks",
    ]
    heads.append("memory, copies of the pruned weights")
    return markdown(
        heads,
        [
            [r["model"], r["solver"], str(r["cadence"]), f"{r['ratio']:.3f}",
             " · ".join(f"{q:.3f}" for q in r["ratio_quartiles"]), f"{r['memory_copies_of_pruned_weights']:.2f}"]
            for r in rows
        ],
    )  # fmt: skip


def selection_table() -> str:
    """How much longer torch.topk and a scatter take than the exact selection, of ``selection.json``."""
    rows = json.loads((HERE / "results" / "selection.json").read_text())["rows"]
    densities = sorted({r["density"] for r in rows})
    cases = list(dict.fromkeys((r["scores"], r["threads"]) for r in rows))
    ratio = {
        (r["scores"], r["threads"], r["density"]): f"{r['topk_over_largest']:.2f}" for r in rows
    }
    return markdown(
        ["scores", "threads", *(f"density {d}" for d in densities)],
        [[scores, str(n), *(ratio[scores, n, d] for d in densities)] for scores, n in cases],
    )


def structured_table() -> str:
    """Accuracies and sizes of the runs of ``structured.json``."""
    rows = []
    for title, run in _structured().items():
        own, counts, small = run["accuracy"], run["counts"], run["compact"]
        epochs = run["epochs"]
        rows.append(
            [
                title,
                *(_percent(own[name]) for name in ("dense", "hard_pruned", "retrained")),
                f"{epochs['prune']} + {epochs.get('retrain', 0)}",
                f"{counts['conv_only']['nonzero']:,} ({counts['conv_only']['compression']:.1f}×)",
                f"{small['after']['parameters']:,} of {small['before']['parameters']:,}",
                _percent(small["metrics"]["accuracy"]),
                f"{small['proof']['difference']:.1e} of {small['proof']['scale']:.0f}",
                _purified(run.get("purified")),
            ]
        )
    heads = ["run", "dense, %", "as cut, %", "retrained, %", "epochs", "convolution weights left"]
    heads += ["parameters of the compact model", "its accuracy, %", "max Δoutput, of outputs up to"]
    heads += ["with P-RM: convolution weights, parameters, accuracy"]
    return markdown(heads, rows)


def structured_latency_table() -> str:
    """Speed-up over dense of the compact models of ``structured.json``, one thread."""
    rows = []
    for title, run in _structured().items():
        for row in run.get("latency", {}).get("rows", []):
            if row["model"] != "dense" and row["threads"] == 1:
                up = row["speedup"]
                rows.append(
                    [title, row["runtime"], row["model"], str(row["batch"]),
                     f"{1000 * row['seconds']['median']:.2f}",
                     f"{up['median']:.2f} ({up['low']:.2f}–{up['high']:.2f})"]
                )  # fmt: skip
    return markdown(["run", "runtime", "model", "batch", "ms a call", "× dense (quartiles)"], rows)


def _purified(run: dict[str, Any] | None) -> str:
    if run is None:
        return "–"
    conv = run["purification"]["counts"]["after"]["conv_only"]
    accuracy = _percent(run["metrics"]["accuracy"])
    return f"{conv['nonzero']:,} ({conv['compression']:.1f}×), {run['after']['parameters']:,}, {accuracy} %"


def _structured() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / "results" / "structured.json").read_text())
    return found


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"


def widths_table() -> str:
    """Speed-up of ResNet-56 in several widths, of ``widths.json``."""
    rows = json.loads((HERE / "results" / "widths.json").read_text())["rows"]
    speed = {(r["widths"], r["batch"]): r["speedup"] for r in rows}
    named = {r["widths"]: r["macs"] for r in rows if r["widths"] != "dense"}
    return markdown(
        ["widths", "multiply-accumulates", "× dense, batch 1 (quartiles)", "× dense, batch 32"],
        [
            [name, f"{100 * macs:.0f} %"]
            + [
                f"{middle:.2f} ({low:.2f}–{high:.2f})"
                for low, middle, high in (speed[name, batch] for batch in (1, 32))
            ]
            for name, macs in named.items()
        ],
    )


def break_even_table() -> str:
    """From which pruning ratio on CSR is not slower, of ``break_even.json``."""
    rows = json.loads((HERE / "results" / "break_even.json").read_text())["rows"]
    return markdown(
        ["linear layer", "batch", "break-even ratio", "× dense at 90 %", "at 98 %"],
        [
            [
                f"{r['inputs']} → {r['outputs']}",
                str(r["batch"]),
                "–" if r["ratio"] is None else f"{r['ratio']:.1f}×",
                *(f"{r['speedups'][f][1]:.2f}" for f in ("0.9", "0.98")),
            ]
            for r in rows
        ],
    )


def families_table() -> str:
    """How many models of ``compact_families.json`` each tool makes smaller."""
    found = json.loads((HERE / "results" / "compact_families.json").read_text())
    models = found["models"]
    failed = {
        tool: sorted(name for name, row in models.items() if not row[tool].get(key))
        for tool, key in (("espalier", "correct"), ("torch_pruning", "runs"))
    }
    return markdown(
        ["tool", "models", "right", "not"],
        [
            [label, str(len(models)), str(len(models) - len(failed[tool])), ", ".join(failed[tool]) or "–"]
            for tool, label in (
                ("espalier", "Espalier: smaller, and proved equal"),
                ("torch_pruning", "Torch-Pruning: smaller, and it runs"),
            )
        ],
    )  # fmt: skip


def page() -> str:
    def fill(match: re.Match[str]) -> str:
        name = match[1]
        special = {
            "overhead": overhead_table,
            "selection": selection_table,
            "structured": structured_table,
            "structured_latency": structured_latency_table,
            "widths": widths_table,
            "break_even": break_even_table,
            "families": families_table,
        }
        table = special[name]() if name in special else grid_table(name)
        return f"<!-- table {name} -->\n\n{table}\n\n<!-- end -->"

    return re.sub(r"<!-- table (\w+) -->.*?<!-- end -->", fill, PAGE.read_text(), flags=re.DOTALL)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    if parser.parse_args().check:
        sys.exit(
            0 if page() == PAGE.read_text() else "docs/results.md does not say what the results say"
        )
    PAGE.write_text(page())
