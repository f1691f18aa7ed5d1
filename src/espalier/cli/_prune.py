"""``espalier prune``: one run of a recipe."""

import shlex
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from espalier.cli._output import (
    AsJson,
    RecipeFile,
    Settings,
    advise,
    print_json,
    resumable,
)
from espalier.errors import AdviceWarning

if TYPE_CHECKING:
    from espalier.runs._result import Quantised, Result
    from espalier.tasks import Goal

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
    """Train the weights onto the plan, cut, and say what came of it.

    Pretraining, retraining and quantisation, or a list of stages, are run as the recipe says.
    """
    from espalier.planning import Plan
    from espalier.recipe import load
    from espalier.recipe._running import Job, run
    from espalier.training import show_progress

    folder = out or Path("runs") / recipe.stem
    written = folder / "plan.yaml"
    # A plan that is written is the plan: to make one may take measurements.
    plan = Plan.load(written) if resume and written.is_file() else None
    job = Job.prepare(*load(recipe, settings or ()), plan)
    advise(job.advice())
    warnings.simplefilter("ignore", AdviceWarning)  # the handles would say it again, hours later
    progress = show_progress(goal=job.task.goal)
    with resumable(_command(recipe, settings or [], folder)), progress as on_event:
        done = run(job, folder, resume=resume, on_event=on_event)
    if as_json:
        print_json({"run": str(folder), **done.result.to_dict()})
    else:
        print(summary(done.result, job.task.goal))
        print(f"run folder: {folder}")
        print(f"write the report: espalier report {shlex.quote(str(folder))}")


def summary(result: "Result", goal: "Goal") -> str:
    """What a run ended with, for a reader."""
    lines = [f"{result.outcome.replace('_', ' ')}: {result.sentence}"]
    for stage, words in (
        ("dense", "dense"),
        ("hard_pruned", "hard-pruned"),
        ("hard_pruned_bn", "hard-pruned, BatchNorm re-estimated"),
        ("retrained", "retrained with the zeros held"),
        ("quantised", "quantised"),
        ("quantised_bn", "quantised, BatchNorm re-estimated"),
    ):
        figure = result.figure(stage)
        if figure is not None:
            lines.append(f"{goal.name}, {words}: {goal.shown(figure)}")
    if result.split == "validation":
        lines.append("these figures are on held-out training data (validation), not on test data")
    count = result.counts[CONVENTION]
    shown = "everything is gone" if count.compression is None else f"{count.compression:.1f}×"
    lines.append(
        f"compression: {shown} ({count.nonzero:,} of {count.total:,} weights of convolutions and "
        f"linear layers are left: the convention {CONVENTION})"
    )
    if result.quantisation is not None:
        lines.append(_bits(result.quantisation))
    return "\n".join(lines)


def _bits(found: "Quantised") -> str:
    """How many bits the weights have, and what their values take."""
    each = ", ".join(f"{name} {bits}" for name, bits in found.bits.items())
    size = found.data_bits / 8
    return f"bits per weight: {each}; the values take {size:,.0f} bytes, indices not counted"


def _command(recipe: Path, settings: list[str], folder: Path) -> str:
    words = ["espalier", "prune", str(recipe)]
    for setting in settings:
        words += ["--set", setting]
    return shlex.join([*words, "--out", str(folder), "--resume"])
