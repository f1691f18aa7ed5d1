"""Decides what the page shows: which sections the runs have evidence for."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from espalier.report import _numbers as numbers
from espalier.report import _tables as tables
from espalier.report import _words as words
from espalier.report import figures
from espalier.report._groups import MethodRuns, compare
from espalier.report._pictures import Seen, pictures
from espalier.report._runs import DENSE, Run
from espalier.report._smaller import Smaller, smaller
from espalier.report._tables import Table
from espalier.report.figures import Drawing, Heatmap, Key

Facts = Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class RunEvidence:
    """What one run leaves as evidence; every part may be missing."""

    label: str
    outcome: str
    sentence: str
    pictures: Sequence[Seen]
    heatmaps: Sequence[Heatmap]
    heatmaps_left_out: int
    conditions: Sequence[Drawing]
    certificate: Sequence[Drawing]
    certificate_table: Table | None
    layers: Table | None
    counts: Table | None
    smaller: Smaller


@dataclass(frozen=True, kw_only=True)
class Again:
    """How to do one group of runs again: what is its own, and its recipe."""

    label: str
    facts: Facts
    recipe: str


def render(runs: Sequence[Run]) -> str:
    """The page."""
    comparison = compare(runs)
    groups = comparison.groups
    styles = figures.styles_for(groups)
    keys = [Key(label=g.label, style=s) for g, s in zip(groups, styles, strict=True)]
    common = _common([_environment(run) for run in runs])
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
        title=words.title(runs),
        lead=words.lead(comparison),
        alone=len(runs) == 1,
        comparison=comparison,
        facts=words.facts(runs),
        ladder=words.ladder(runs[0]) if len(runs) == 1 else [],
        compression=words.compression(runs[0]) if len(runs) == 1 else None,
        level_field=tables.level_field(comparison, keys) if len(runs) > 1 else None,
        keys=keys,
        curves=figures.curves(comparison, styles),
        ablation=figures.ablation(comparison),
        evidence=[_evidence(group, i) for i, group in enumerate(groups) if group.method != DENSE]
        or [_evidence(groups[0], 0)],
        banded=len(groups) <= figures.BANDED,
        seeds=any(len(group.runs) > 1 for group in groups),
        common=common,
        commands=list(dict.fromkeys(filter(None, map(_command, runs)))),
        again=[_again(group, common) for group in groups],
        heat_stops=figures.heat_stops(),
    )


def _evidence(group: MethodRuns, index: int) -> RunEvidence:
    run, name = group.runs[0], f"run{index}"
    heatmaps, left_out = figures.heatmaps(run)
    outcome = str((run.result or {}).get("outcome") or "unfinished")
    return RunEvidence(
        label=group.label,
        outcome=outcome.replace("_", " "),
        sentence=words.verdict(run),
        pictures=pictures(run),
        heatmaps=heatmaps,
        heatmaps_left_out=left_out,
        conditions=figures.conditions(run, name),
        certificate=figures.certificate(run, name),
        certificate_table=tables.certificate(run),
        layers=tables.layers(run),
        counts=tables.counts(run),
        smaller=smaller(run, name),
    )


_NOT_ENVIRONMENT = {"recipe", "seed", "arguments", "command", "argv", "format", "version"}


def _environment(run: Run) -> Facts:
    """Whatever the config says beside the recipe, flat, and how long the phases took."""
    facts: list[tuple[str, str]] = []
    for key, value in run.config.items():
        if key in _NOT_ENVIRONMENT or run.recipe is run.config:
            continue
        if isinstance(value, Mapping):
            facts += [(_words(k), str(v)) for k, v in value.items() if v is not None]
        elif value is not None:
            facts.append((_words(key), str(value)))
    seconds = run.got("seconds")
    facts += [(f"time to {k}", numbers.duration(v)) for k, v in seconds.items() if v]
    if run.resumed:
        facts.append(("resumed", f"{run.resumed} times"))
    return facts


def _words(key: object) -> str:
    return str(key).replace("_", " ")


def _common(environments: Sequence[Facts]) -> Facts:
    """The facts true of every run."""
    return [fact for fact in environments[0] if all(fact in other for other in environments)]


def _again(group: MethodRuns, common: Facts) -> Again:
    own = _common([_environment(run) for run in group.runs])
    return Again(
        label=group.label,
        facts=[fact for fact in own if fact not in common],
        recipe=group.runs[0].recipe_text,
    )


def _command(run: Run) -> str:
    for key in ("arguments", "command", "argv"):
        told = run.config.get(key)
        if isinstance(told, list) and told:
            words = [str(part) for part in told]
            ours = words[0] in ("prune", "compare")  # as the config has it, without the program
            return shlex.join(["espalier", *words] if ours else words)
        if isinstance(told, str) and told:
            return told
    return "espalier prune recipe.yaml" if run.recipe_text else ""
