"""The page's tables, as plain rows of cells; the template draws them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from espalier._ground.interval import Interval
from espalier.report import _numbers as numbers
from espalier.report._groups import Comparison, MethodRuns, mean
from espalier.report._numbers import MISSING, finite
from espalier.report._runs import DENSE, Json, Run
from espalier.report.figures import Key
from espalier.report.figures._certificate import relative_violation
from espalier.tasks import Goal

CONVENTIONS = {
    "all_nonbias": "all parameters but biases (SLR)",
    "conv_fc_weights": "convolution and linear weights (ADMM)",
    "conv_only": "convolution weights (P-RM)",
    "pruned_layers_only": "pruned parameters only",
    "all_params": "all parameters",
}
_HEADLINE = "conv_fc_weights"  # what the command line quotes
STAGES = (
    ("dense", "dense"),
    ("hard_pruned", "hard-pruned"),
    ("hard_pruned_bn", "BN re-estimated"),
    ("retrained", "masked retraining"),
)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell: its text and, where it has one, a bar (a fraction of the column's width)."""

    text: str
    note: str = ""
    bar: float | None = None
    strong: bool = False
    key: Key | None = None


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table: heads, which columns hold words, rows."""

    heads: Sequence[str]
    words: Sequence[int]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""


def level_field(comparison: Comparison, keys: Sequence[Key]) -> Table:
    """One row per group: the goal's figure over seeds, compression, time, overhead, outcomes."""
    groups, goal = comparison.groups, comparison.goal
    stages = [
        (stage, label, [mean([run.final(stage) for run in group.runs]) for group in groups])
        for stage, label in STAGES
    ]
    stages = [column for column in stages if any(column[2])]
    extra: tuple[tuple[str, Callable[[Run], Any], Callable[[Any], str]], ...] = (
        ("compression", _headline_compression, numbers.ratio),
        ("epochs", lambda run: run.pruning[0] or None, numbers.count),
        ("pruning time", lambda run: run.pruning[1], numbers.duration),
        ("step overhead", lambda run: run.overhead, lambda value: numbers.ratio(value, digits=3)),
    )
    columns = [(label, [g.mean(of) for g in groups], text) for label, of, text in extra]
    columns = [column for column in columns if any(column[1])]
    competing = [index for index, group in enumerate(groups) if group.method != DENSE]
    rows = []
    for index, (group, key) in enumerate(zip(groups, keys, strict=True)):
        row = [Cell(text=group.label, key=key), Cell(text=str(len(group.runs)))]
        for stage, _, means in stages:
            uncut = group.method == DENSE and stage.startswith("hard_pruned")
            rivals = competing * (stage != "dense")
            row.append(_figure(means, index, rivals, uncut, goal))
        row += [
            Cell(text=text(found.mean) if (found := means[index]) else MISSING)
            for _, means, text in columns
        ]
        rows.append([*row, Cell(text=_outcomes(group))])
    heads = ["method", "n", *(label for _, label, _ in stages), *(c[0] for c in columns), "outcome"]
    caption = f"Bold: the {'highest' if goal.higher_is_better else 'lowest'} mean of its column."
    if goal.name != "accuracy":
        caption += f" The figure is {goal.name}"
        caption += "." if goal.higher_is_better else "; lower is better."
    caption += _split_said(comparison)
    if any(m and m.half_width is not None for _, _, means in stages for m in means):
        caption = "Mean ± half-width of the Student-t 95\u202f% interval over n seeds. " + caption
    return Table(heads=heads, words=(0, len(heads) - 1), rows=rows, caption=caption)


def _split_said(comparison: Comparison) -> str:
    """On which data the figures are, where it is not test data throughout."""
    held = [
        group.label
        for group in comparison.groups
        if any(run.split == "validation" for run in group.runs)
    ]
    if not held:
        return ""
    whose = (
        "All figures"
        if len(held) == len(comparison.groups)
        else f"The figures of {', '.join(held)}"
    )
    return f" {whose} are on held-out training data (validation), not on test data."


def _figure(
    means: Sequence[Interval | None], index: int, competing: Sequence[int], uncut: bool, goal: Goal
) -> Cell:
    own = means[index]
    if own is None:
        return Cell(text=MISSING)
    rivals = [m.mean for i in competing if (m := means[i]) is not None]
    note = "" if not own.half_width else f"± {numbers.half_width(own.half_width, goal)}"
    note += " uncut" * uncut
    best = max if goal.higher_is_better else min
    strong = index in competing and len(rivals) > 1 and own.mean == best(rivals)
    return Cell(text=numbers.figure(own.mean, goal), note=note, strong=strong)


def _outcomes(group: MethodRuns) -> str:
    seen = [str((run.result or {}).get("outcome") or "unfinished") for run in group.runs]
    told = dict.fromkeys(seen)
    if len(told) == 1:
        return seen[0].replace("_", " ")
    return ", ".join(f"{seen.count(one)} {one.replace('_', ' ')}" for one in told)


def headline(run: Run) -> tuple[str, float] | None:
    """The convention the page quotes, and the compression under it."""
    counts = run.got("counts")
    for convention in (_HEADLINE, *CONVENTIONS):
        compression = compression_of(counts.get(convention))
        if compression is not None:
            return convention, compression
    return None


def _headline_compression(run: Run) -> float | None:
    found = headline(run)
    return None if found is None else found[1]


def compression_of(counted: Any) -> float | None:
    """The compression of one count, computed where the result does not say it."""
    if not isinstance(counted, Mapping):
        return None
    total, nonzero = finite(counted.get("total")), finite(counted.get("nonzero"))
    if "compression" in counted:
        return finite(counted["compression"])
    return total / nonzero if total and nonzero else None


def counts(run: Run) -> Table | None:
    """Totals and compression under every convention."""
    counted = {c: v for c, v in run.got("counts").items() if isinstance(v, Mapping)}
    if not counted:
        return None
    order = [c for c in CONVENTIONS if c in counted] + [c for c in counted if c not in CONVENTIONS]
    rows = []
    for convention in order:
        value = counted[convention]
        if not finite(value.get("total")):
            continue
        rows.append(
            [
                Cell(text=convention, note=CONVENTIONS.get(convention, "")),
                Cell(text=numbers.count(value.get("total"))),
                Cell(text=numbers.count(value.get("nonzero"))),
                Cell(text=numbers.ratio(compression_of(value))),
            ]
        )
    heads = ("convention", "before", "nonzero after", "compression")
    return Table(heads=heads, words=(0,), rows=rows) if rows else None


def layers(run: Run) -> Table | None:
    """Density of each layer as figures and bars, with its set and keep where the plan says."""
    rows = []
    by_layer = {n: v for n, v in run.got("layers").items() if isinstance(v, Mapping)}
    densities = {name: finite(value.get("density")) for name, value in by_layer.items()}
    widest = max((density for density in densities.values() if density), default=1.0)
    planned = any(name in run.plan for name in by_layer)
    for name, value in by_layer.items():
        density = densities[name]
        bar = None if density is None else max(0.0, min(1.0, density / widest))
        row = [
            Cell(text=name),
            Cell(text=numbers.percent(density), bar=bar),
            Cell(text=numbers.count(value.get("nonzero"))),
            Cell(text=numbers.count(value.get("total"))),
        ]
        if planned:
            row += [
                Cell(text=_keep(run.plan.get(name))),
                Cell(text=set_name(run.plan.get(name, {}))),
            ]
        rows.append(row)
    heads, words = ["parameter", "density", "nonzero", "weights"], [0]
    if planned:
        heads, words = [*heads, "units kept", "set"], [0, 5]
    caption = "Bars are to the scale of the densest parameter."
    return Table(heads=heads, words=words, rows=rows, caption=caption) if rows else None


def set_name(entry: Json) -> str:
    """The set of a plan's entry with its arguments.

    >>> set_name({"set": {"n_of_m": {"n": 2, "m": 4}}})
    'n_of_m(n=2, m=4)'
    """
    if goes_along(entry):
        return "with its layer"
    spec = entry.get("set", MISSING)
    if isinstance(spec, Mapping):
        return "; ".join(
            f"{name}({', '.join(f'{k}={v}' for k, v in args.items())})"
            if isinstance(args, Mapping)
            else f"{name}={args}"
            for name, args in spec.items()
        )
    return str(spec)


def goes_along(entry: Json) -> bool:
    """Whether it is a bias, γ or β, which is pruned only along with the channels of its layer."""
    return entry.get("layer_kind") in ("bias", "norm")


def _keep(entry: Json | None) -> str:
    keep = (entry or {}).get("keep")
    if isinstance(keep, list | tuple):
        return " × ".join(numbers.count(part) for part in keep)
    return numbers.count(keep)


def certificate(run: Run) -> Table | None:
    """Per layer, the evidence at the first and at the last update."""
    updates = [update for update in run.updates if update.get("layers")]
    if not updates:
        return None
    first, last = updates[0]["layers"], updates[-1]["layers"]
    forced = ((run.result or {}).get("certificate") or {}).get("forced") or [{}]
    took = max(forced, key=lambda one: one.get("total") or 0.0).get("layers", {})
    rows = []
    for name, layer in last.items():
        began, ended = relative_violation(first.get(name, {})), relative_violation(layer)
        rows.append(
            [
                Cell(text=name),
                Cell(text=numbers.percent(began)),
                Cell(text=numbers.percent(ended)),
                Cell(text=numbers.percent(finite(took.get(name))), strong=True),
                Cell(text=numbers.scientific(layer.get("weight"))),
                Cell(text=numbers.scientific(layer.get("violation"))),
                Cell(text=numbers.scientific(layer.get("z_change"))),
                Cell(text=numbers.scientific(layer.get("multiplier_change"))),
            ]
        )
    relative = "‖W−Z‖/‖W‖"
    heads = (
        "parameter",
        f"{relative} first",
        "last",
        "when forced",
        "‖W‖",
        "‖W−Z‖",
        "‖Z⁺−Z‖",
        "‖ΔΛ‖",
    )
    step = numbers.count(updates[-1].get("step"))
    caption = f"At the last of {len(updates):,} updates, step {step}. ‖·‖ is the Frobenius norm."
    return Table(heads=heads, words=(0,), rows=rows, caption=caption)
