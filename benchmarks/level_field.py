"""Tables of comparisons: a line a contestant of a recipe, with the runs that have its settings.

The recipes of a table are those in ``recipes/TABLE``. Two files hold runs: ``results/compared.json``, of
``espalier compare``, and ``results/level_field.jsonl``, of the script that this project used before. A run stands
in every line whose settings it has, and in no other, so a recipe that is changed loses its figures.
"""

import json
from pathlib import Path
from statistics import median
from typing import Any

from gather import RESULTS, alike, deciding
from markup import markdown, percent

from espalier.compare import Contestant, contestants
from espalier.recipe import load

HERE = Path(__file__).parent
EARLIER = HERE / "results" / "level_field.jsonl"

CENTRE: dict[str, Any] = {
    "until": None, "settle": None, "metric": "identity", "decoupled": False, "rho": 0.1, "step": 0.01,
    "cadence": 20, "printed": False, "M": 300.0, "r": 0.1,
}  # fmt: skip
"""What the earlier script wrote where a method has no such setting."""
KEPT = {5050: "85.2x", 6050: "71.2x", 1430: "300x"}
HEADINGS = {
    "keep": "compression", "until": "budget closes at", "settle": "settles at", "rho": "ρ", "step": "s⁰",
    "decoupled": "pull decoupled", "lr": "learning rate",
}  # fmt: skip
SHOWN = ("method", "keep", "epochs", "lr", "cadence", "until", "decoupled", "rho", "step", "settle")


def lines_of(table: str) -> list[Contestant]:
    """The contestants of a table's recipes, with their first seed."""
    files = sorted((HERE / "recipes" / table).glob("*.yaml"))
    found = []
    for file in files:
        found += contestants(file.stem, *load(file), seeds=1, prefix=len(files) > 1)
    return found


def said(line: Contestant) -> dict[str, Any]:
    """The settings of a line in the words of the earlier script; None where its method has none."""
    recipe, solver = line.recipe, line.recipe.solver.model_dump(mode="json")
    pulls = line.method in {"slr", "admm", "penalty"}
    once = line.method == "oneshot"  # it was one epoch at learning rate 0 then, and is none now
    lenet = recipe.data is not None and recipe.data.name == "mnist"
    keep = KEPT.get(sum((recipe.plan.keep or {}).values())) if lenet else "8.7x"
    return {
        "problem": "lenet5-mnist" if lenet else "resnet20-cifar10", "method": line.method, "keep": keep,
        "epochs": 1 if once else recipe.training.epochs, "lr": 0.0 if once else recipe.training.lr,
        "batch": recipe.training.batch_size, "cadence": solver["cadence"], "metric": solver["metric"]["method"],
        "until": solver["continuation"].get("until"), "settle": solver["settle"] if pulls else None,
        "decoupled": solver["decoupled"] if pulls else None, "rho": solver.get("rho"), "step": solver.get("step"),
        "M": solver.get("M"), "r": solver.get("r"), "printed": solver.get("printed_steps"),
    }  # fmt: skip


def earlier(line: Contestant) -> list[dict[str, Any]]:
    """Runs of the earlier script with the settings of this line, the last of each seed."""
    wanted = {k: CENTRE.get(k) if v is None else v for k, v in said(line).items()}
    runs = [json.loads(text) for text in EARLIER.read_text().splitlines()]
    alike = [
        run
        for run in runs
        if "error" not in run
        and all(run["settings"].get(k, v if k == "problem" else None) == v for k, v in wanted.items())
    ]  # fmt: skip
    return list({run["settings"]["seed"]: run for run in alike}.values())


def compared(line: Contestant) -> list[dict[str, Any]]:
    """Runs of ``espalier compare`` with the settings of this line, the last of each seed."""
    if not RESULTS.exists():
        return []
    wanted = deciding(line.recipe.settings())
    wanted["retrain"] = None  # it comes after what is compared

    rows = json.loads(RESULTS.read_text())["rows"]
    same = [run for run in rows if alike({**run["settings"], "retrain": None}, wanted)]
    return list({run["seed"]: run for run in same}.values())


def grid_table(table: str) -> str:
    """One row a line and a file of runs: what differs between the lines, then what came of it."""
    lines = lines_of(table)
    kept = [said(line) for line in lines]
    keys = [k for k in SHOWN if k == "method" or len({x[k] for x in kept} - {None}) > 1]
    retrains = any(line.recipe.retrain is not None for line in lines)
    rows = []
    for line, settings in zip(lines, kept, strict=True):
        for by, runs in (("earlier script", earlier(line)), ("compare", compared(line))):
            if not runs:
                continue
            early = [run["curve"]["2"] for run in runs if "2" in run["curve"]]
            again = [run["retrained"] for run in runs if run["retrained"] is not None]
            rows.append(
                [_word(settings[k]) for k in keys]
                + [percent(early), percent([run["hard_pruned"] for run in runs])]
                + ([percent(again)] if retrains else [])
                + [str(len(runs)), percent([run["dense"] for run in runs if "dense" in run]), by]
            )
    heads = [HEADINGS.get(k, k) for k in keys] + ["cut after epoch 2, %", "cut at the end, %"]
    heads += ["retrained, %"] if retrains else []
    return markdown([*heads, "seeds", "dense before, %", "measured by"], rows)


def methods_table(comparison: str) -> str:
    """One row a label of a comparison that has been gathered, best first."""
    rows = json.loads(RESULTS.read_text())["rows"]
    labels: dict[str, list[dict[str, Any]]] = {}
    for run in rows:
        if run["comparison"] == comparison:
            labels.setdefault(_plain(run["label"]), []).append(run)

    def cut(item: tuple[str, list[dict[str, Any]]]) -> float:
        return -median(run["hard_pruned"] for run in item[1])

    retrains = any(run["retrained"] is not None for runs in labels.values() for run in runs)
    heads = ["method", "epochs", "weights left", "cut, no retraining, %"]
    heads += [*(["retrained, %"] if retrains else []), "seeds", "at the start, %"]
    table = []
    for label, runs in sorted(labels.items(), key=cut):
        again = [run["retrained"] for run in runs if run["retrained"] is not None]
        table.append(
            [label, str(runs[0]["epochs"]), _counts(runs)]
            + [percent([run["hard_pruned"] for run in runs])]
            + ([percent(again) if again else "—"] if retrains else [])
            + [str(len(runs)), percent([run["dense"] for run in runs])]
        )
    return markdown(heads, table)


def _plain(label: str) -> str:
    """Without the recipe's name before it, which tells several recipes of one comparison apart."""
    for recipe in (HERE.parent / "recipes").glob("*.yaml"):
        label = label.removeprefix(f"{recipe.stem}-")
    return label


def _counts(runs: list[dict[str, Any]]) -> str:
    least, most = min(r["nonzero"] for r in runs), max(r["nonzero"] for r in runs)
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "—" if value is None else str(value)
