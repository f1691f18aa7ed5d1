"""``espalier prune``: one run of a recipe."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from espalier.cli._output import (
    AsJson,
    RecipeFile,
    Settings,
    percent,
    print_json,
    resumable,
)

CONVENTION = "conv_fc_weights"
"""In which compression is stated: weights of convolutions and linear layers, biases left out."""


def prune(
    recipe: RecipeFile,
    settings: Settings = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="The run folder; by default runs/NAME-OF-THE-RECIPE.", show_default=False
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in that folder.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train the weights onto the plan, cut, retrain if asked, and say what came of it."""
    from espalier.recipe import load
    from espalier.recipe._running import Job, run
    from espalier.training import show_progress

    folder = out or Path("runs") / recipe.stem
    job = Job.prepare(*load(recipe, settings or ()))
    with resumable(_command(recipe, settings or [], folder)), show_progress() as on_event:
        done = run(job, folder, resume=resume, on_event=on_event)
    if as_json:
        print_json({"run": str(folder), **done.result})
    else:
        print(summary(done.result, job.task.goal_metric))
        print(f"run folder: {folder}")
        print(f"write the report: espalier report {shlex.quote(str(folder))}")


def summary(result: Mapping[str, Any], metric: str) -> str:
    """What a run ended with, for a reader.

    Args:
        result: ``result.json``.
        metric: The one to show.
    """
    lines = [f"{result['outcome'].replace('_', ' ')}: {result['sentence']}"]
    for stage, words in (
        ("dense", "dense"),
        ("hard_pruned", "hard-pruned"),
        ("hard_pruned_bn", "hard-pruned, BatchNorm re-estimated"),
        ("retrained", "retrained with the zeros held"),
        ("quantised", "quantised"),
        ("quantised_bn", "quantised, BatchNorm re-estimated"),
    ):
        if result.get(stage):
            lines.append(f"{metric}, {words}: {percent(result[stage][metric])}")
    count = result["counts"][CONVENTION]
    ratio = count["compression"]
    shown = "everything is gone" if ratio is None else f"{ratio:.1f}×"
    lines.append(
        f"compression: {shown} ({count['nonzero']:,} of {count['total']:,} weights of convolutions and "
        f"linear layers are left: the convention {CONVENTION})"
    )
    if result.get("quantisation"):
        lines.append(_bits(result["quantisation"]))
    return "\n".join(lines)


def _bits(found: Mapping[str, Any]) -> str:
    """How many bits the weights have, and what their values take."""
    each = ", ".join(f"{name} {bits}" for name, bits in found["bits"].items())
    size = found["data_bits"] / 8
    return f"bits a weight: {each}; the values take {size:,.0f} bytes, indices not counted"


def _command(recipe: Path, settings: list[str], folder: Path) -> str:
    words = ["espalier", "prune", str(recipe)]
    for setting in settings:
        words += ["--set", setting]
    return shlex.join([*words, "--out", str(folder), "--resume"])
