"""What papers print, beside what our plans count."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from espalier import models
from espalier.errors import RecipeError
from espalier.planning import Plan, plan
from espalier.recipe._recipe import Recipe, load
from espalier.recipe._sections import PublishedSection
from espalier.recipe._without_data import plan_without_data
from espalier.sets import Unstructured


def recipes_in(folder: str | Path) -> dict[str, Recipe]:
    """By path the recipes in a folder and the folders in it.

    Raises:
        RecipeError: No such folder, none in it, or one that is wrong.
    """
    files = sorted(Path(folder).rglob("*.yaml"))
    if not files:
        raise RecipeError(f"{folder}: no recipes in it; give a folder of .yaml files")
    return {str(file): load(file)[0] for file in files}


def counted(recipe: Recipe, made: Plan) -> Iterator[str]:
    """A sentence on the paper's rate and the plan's, where the recipe is for a paper's row; it ends its line."""
    said = recipe.published
    if said is not None:
        count = getattr(made.counts(), said.counts)
        yield (
            f"{said.paper}, {said.row}: {said.rate}× of {said.counts}; this plan: {ours(said, made)}× "
            f"({count.nonzero:,} of {count.total:,} left). There: {said.figure}\n"
        )


def ours(said: PublishedSection, made: Plan) -> str:
    """The plan's compression in the paper's convention, with a digit more than the paper's."""
    digits = len(said.rate.partition(".")[2]) + 1
    return f"{getattr(made.counts(), said.counts).compression:.{digits}f}"


def agrees(said: PublishedSection, made: Plan) -> bool:
    """Whether the plan's compression is the paper's within one of its last digit (some papers round, some cut off)."""
    unit = 10.0 ** -len(said.rate.partition(".")[2])
    return abs(float(getattr(made.counts(), said.counts).compression) - float(said.rate)) < unit


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a paper.

    Attributes:
        file: Its recipe.
        said: What the paper says.
        plan: What is planned; None for budgets that need the data.
    """

    file: str
    said: PublishedSection
    plan: Plan | None


def rows(found: Mapping[str, Recipe]) -> Iterator[Row]:
    """The published ones with what is planned; no data are read."""
    for file, recipe in found.items():
        if recipe.published is not None:
            yield Row(file=file, said=recipe.published, plan=_counted(recipe))


def _counted(recipe: Recipe) -> Plan | None:
    """On shapes alone where that decides it: no weight is drawn."""
    section = recipe.plan
    by_shape = section.sets is None and isinstance(section.set.build(), Unstructured)
    if not by_shape or section.allocation != "uniform" or section.latency is not None:
        return plan_without_data(recipe)
    with torch.device("meta"):
        model = models.build(recipe.model.name, **recipe.model.arguments)
    return plan(model, include=section.include, exclude=section.exclude or None, **section.figures)


def markdown(found: Iterable[Row]) -> str:
    """The table of a document: the paper's figure beside ours."""
    lines = [
        "| paper | row | weights left, ours | rate, paper | rate, ours | counted | layers' shares | there | recipe |",
        "|---|---|---:|---:|---:|---|---|---|---|",
    ]
    for row in found:
        said = row.said
        left = rate = "–"
        if row.plan is not None:
            count = getattr(row.plan.counts(), said.counts)
            left, rate = f"{count.nonzero:,} of {count.total:,}", f"{ours(said, row.plan)}×"
        lines.append(
            f"| {said.paper} | {said.row} | {left} | {said.rate}× | {rate} | `{said.counts}` "
            f"| {said.profile} | {said.figure} | `{Path(row.file).stem}` |"
        )
    return "\n".join(lines) + "\n"
