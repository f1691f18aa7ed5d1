"""Decides what the page shows: which sections the runs have evidence for, and their words."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from espalier.report import figures, numbers, tables
from espalier.report.figures import Drawing, Heatmap, Key
from espalier.report.figures.heatmaps import scale_css
from espalier.report.groups import Comparison, compare
from espalier.report.runs import Run, named
from espalier.report.tables import STAGES, Table

_STAGE_NOTES = {
    "dense": "before pruning",
    "hard_pruned": "cut, nothing trained after",
    "hard_pruned_bn": "BatchNorm re-estimated",
    "retrained": "after masked retraining",
}
_OUTCOMES = {
    "converged": "converged",
    "budget_spent": "budget spent",
    "stalled": "stalled",
    "non_finite": "non-finite",
}


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One accuracy on the ladder from dense to what is handed back."""

    stage: str
    value: str
    note: str
    change: str


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What one run leaves as evidence; every part may be missing."""

    run: Run
    label: str
    anchor: str
    outcome: str
    sentence: str
    heatmaps: Sequence[Heatmap]
    heatmaps_left_out: int
    conditions: Sequence[Drawing]
    certificate: Sequence[Drawing]
    certificate_table: Table | None
    layers: Table | None
    counts: Table | None


def render(runs: Sequence[Run]) -> str:
    """The page."""
    comparison = compare(runs)
    groups = comparison.groups
    styles = figures.styles_for(groups)
    keys = [Key(label=g.label, style=s) for g, s in zip(groups, styles, strict=True)]
    evidence = [_evidence(group.runs[0], group.label, i) for i, group in enumerate(groups)]
    environment = Environment(
        loader=PackageLoader("espalier.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = files("espalier.report").joinpath("style.css").read_text(encoding="utf-8")
    return environment.get_template("page.html.jinja").render(
        style=Markup(style),
        title=_title(runs),
        lead=_lead(comparison),
        run=runs[0],
        runs=runs,
        comparison=comparison,
        facts=_facts(runs),
        ladder=_ladder(runs[0]) if len(runs) == 1 else [],
        compression=_compression(runs[0]) if len(runs) == 1 else None,
        level_field=tables.level_field(comparison, keys) if len(runs) > 1 else None,
        curves=figures.curves(comparison, styles),
        ablation=figures.ablation(comparison),
        evidence=evidence,
        shortened=any(len(group.runs) > 1 for group in groups),
        environments=[_environment(run) for run in runs],
        heat_stops=scale_css(),
    )


def _title(runs: Sequence[Run]) -> str:
    models = " and ".join(dict.fromkeys(run.model for run in runs))
    data = " and ".join(dict.fromkeys(run.data for run in runs))
    return f"{models} on {data}"


def _lead(comparison: Comparison) -> str:
    """What happened, in one or two sentences with its figures."""
    if len(comparison.groups) == 1 and len(comparison.groups[0].runs) == 1:
        return _lead_of_one(comparison.groups[0].runs[0])
    ranked = []
    for group in comparison.groups:
        found = group.mean(lambda run: run.final("hard_pruned"))
        if found is not None:
            ranked.append((found.value, group.label))
    n = sum(len(group.runs) for group in comparison.groups)
    what = f"{n} runs, {len(comparison.groups)} settings. "
    if len(comparison.groups) == 1:
        what = f"{n} runs of {comparison.groups[0].label}, differing in their seed. "
    if not ranked:
        return what + "None has been cut yet."
    ranked.sort(key=lambda pair: -pair[0])
    best = f"Cut and not retrained, {ranked[0][1]} keeps {numbers.percent(ranked[0][0])}"
    if len(ranked) > 1:
        best += f" and {ranked[-1][1]} {numbers.percent(ranked[-1][0])}"
    return f"{what}{best}."


def _lead_of_one(run: Run) -> str:
    if run.result is None:
        seen = run.final("hard_pruned")
        told = f" If cut at its last evaluation: {numbers.percent(seen)}." if seen else ""
        return f"This run is unfinished: it has no result.json yet.{told}"
    headline, cut, dense = tables.headline(run), run.final("hard_pruned"), run.final("dense")
    left = f"{numbers.ratio(headline[1])} smaller" if headline else "pruned"
    told = f"{run.method} left {run.model} {left}"
    if cut is None:
        return f"{told}."
    told += f"; cut and not retrained, its {run.goal} is {numbers.percent(cut)}"
    if dense is not None:
        lost = 100 * (dense - cut)
        how = "below" if lost >= 0 else "above"
        told += f", {abs(lost):.2f} points {how} dense"
    return f"{told}."


def _ladder(run: Run) -> list[Rung]:
    dense = run.final("dense")
    rungs = []
    for stage, label in STAGES:
        value = run.final(stage)
        if value is not None:
            change = "" if dense is None or stage == "dense" else numbers.points(value - dense)
            note = _STAGE_NOTES[stage]
            rungs.append(Rung(stage=label, value=numbers.percent(value), note=note, change=change))
    return rungs


def _compression(run: Run) -> tuple[str, str, str] | None:
    headline = tables.headline(run)
    if headline is None:
        return None
    convention, value = headline
    counted = run.got("counts")[convention]
    of = f"{numbers.count(counted.get('nonzero'))} of {numbers.count(counted.get('total'))}"
    return numbers.ratio(value), of, tables.CONVENTIONS.get(convention, convention)


def _facts(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """What was asked: each fact once, all its values if the runs differ."""
    facts = []
    for label, of in _FACTS:
        values = list(dict.fromkeys(filter(None, map(of, runs))))
        if values:
            more = f" and {len(values) - 4} more" if len(values) > 5 else ""
            facts.append((label, ", ".join(values[: 4 if more else 5]) + more))
    return facts


def _budget(run: Run) -> str:
    plan = run.recipe.get("plan") or run.recipe.get("budget")
    if not isinstance(plan, Mapping):
        return "" if plan is None else str(plan)
    told = []
    for key in ("compression", "density", "sparsity", "macs"):
        if plan.get(key) is not None:
            value = plan[key]
            told.append(numbers.ratio(value) if key == "compression" else f"{key} {value}")
    if isinstance(plan.get("keep"), Mapping):
        keeps = [str(keep) for keep in plan["keep"].values()]
        shown = " / ".join(keeps[:6]) + (" …" if len(keeps) > 6 else "")
        told.append(f"keep {shown}")
    told += [named(plan[key]) for key in ("set", "allocation") if plan.get(key)]
    return ", ".join(told)


def _training(run: Run) -> str:
    told = [
        f"{phase.get('epochs')} epochs {phase.get('phase')} ({numbers.count(phase.get('steps'))}"
        " steps)"
        for phase in run.phases
        if phase.get("epochs")
    ]
    return ", ".join(told)


_FACTS = (
    ("method", lambda run: run.method),
    ("model", lambda run: run.model),
    ("data", lambda run: run.data),
    ("budget", _budget),
    ("training", _training),
    ("seed", lambda run: "" if run.seed is None else str(run.seed)),
)


def _evidence(run: Run, label: str, index: int) -> Evidence:
    name = f"run{index}"
    pictures, left_out = figures.heatmaps(run)
    outcome = str((run.result or {}).get("outcome") or "unfinished")
    return Evidence(
        run=run,
        label=label,
        anchor=name,
        outcome=_OUTCOMES.get(outcome, outcome),
        sentence=str((run.result or {}).get("sentence") or ""),
        heatmaps=pictures,
        heatmaps_left_out=left_out,
        conditions=figures.conditions(run, name),
        certificate=figures.certificate(run, name),
        certificate_table=tables.certificate(run),
        layers=tables.layers(run),
        counts=tables.counts(run),
    )


def _environment(run: Run) -> dict[str, Any]:
    arguments = run.config.get("arguments") or run.config.get("command")
    command = ""
    if isinstance(arguments, list):
        command = shlex.join(str(part) for part in arguments)
    elif isinstance(arguments, str):
        command = arguments
    facts: list[tuple[str, str]] = []
    for key in ("commit", "git", "git_commit", "versions", "hardware", "device"):
        value = run.config.get(key)
        if isinstance(value, Mapping):
            facts += [(str(k), str(v)) for k, v in value.items() if v is not None]
        elif value is not None:
            facts.append((key.replace("_", " "), str(value)))
    seconds = run.got("seconds")
    facts += [(f"{k} time", numbers.duration(v)) for k, v in seconds.items() if v is not None]
    if run.resumed:
        facts.append(("resumed", f"{run.resumed} times"))
    if run.unreadable:
        facts.append(("metrics.jsonl", f"{run.unreadable} unreadable lines left out"))
    return {"run": run, "command": command, "facts": facts}
