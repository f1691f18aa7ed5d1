"""Write the tables of ``docs/results.md`` and ``docs/results/`` from the committed result files, and the plots.

    python benchmarks/tables.py            # rewrites what stands between the markers of the pages
    python benchmarks/tables.py --check    # exit status 1 if that would change it

A marker is ``<!-- table NAME -->`` … ``<!-- end -->``, NAME being a folder of ``benchmarks/recipes``,
a comparison in ``results/compared.json``, ``overhead``, ``selection``, ``structured``,
``structured_latency``, ``structured_field``, ``structured_settings``, ``speed``, ``widths``, ``break_even``,
``families`` and what begins so; or ``field.NAME``, ``paired.NAME``, ``settings.NAME``
of a field in ``benchmarks/fields``.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import field_pages
from budget_table import budgets_table
from family_tables import conditions, exceptions_table, families_table, published_table
from level_field import grid_table, methods_table
from markup import markdown
from structured_tables import field_table, settings_table, speed_table

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"


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


def page(text: str) -> str:
    """A page of the documentation with its tables as the result files have them."""

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        kind, _, field = name.partition(".")
        special = {
            "overhead": overhead_table,
            "selection": selection_table,
            "structured": structured_table,
            "structured_latency": structured_latency_table,
            "structured_field": field_table,
            "structured_settings": settings_table,
            "speed": speed_table,
            "widths": widths_table,
            "break_even": break_even_table,
            "budgets": budgets_table,
            "families": families_table,
            "families_not": exceptions_table,
            "families_published": published_table,
            "families_conditions": conditions,
        }
        by_settings = (HERE / "recipes" / name).is_dir()
        general = grid_table if by_settings else methods_table
        if kind in field_pages.TABLES and field:
            table = field_pages.TABLES[kind](field)
        else:
            table = special[name]() if name in special else general(name)
        return f"<!-- table {name} -->\n\n{table}\n\n<!-- end -->"

    return re.sub(r"<!-- table ([\w.-]+) -->.*?<!-- end -->", fill, text, flags=re.DOTALL)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    for path in (DOCS / "results.md", *sorted((DOCS / "results").glob("*.md"))):
        text = path.read_text()
        if check and page(text) != text:
            sys.exit(f"{path.relative_to(DOCS.parent)} does not say what the results say")
        if not check:
            path.write_text(page(text))
    if not check:
        for plot in field_pages.plots():
            print(plot)
