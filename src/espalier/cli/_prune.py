"""``espalier prune``: one run of a recipe."""

import os
import shlex
import warnings
from contextlib import nullcontext
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
from espalier.cli._ranks import joined, launch
from espalier.errors import AdviceWarning, LostRankError, RequestError

if TYPE_CHECKING:
    from espalier._ground.world import World
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
    nproc: Annotated[
        int | None,
        typer.Option("--nproc", help="Train in so many processes, each a part of every batch."),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option("--timeout", help="Seconds after which a silent process counts as lost."),
    ] = 600.0,
    as_json: AsJson = False,
) -> None:
    """Train the weights onto the plan, cut, and say what came of it.

    Pretraining, retraining and quantisation, or a list of stages, are run as the recipe says.
    """
    folder = out or Path("runs") / recipe.stem
    again = _command(recipe, settings or [], folder, nproc)
    if nproc is not None and "WORLD_SIZE" not in os.environ:
        # They are told their number too, for what they say of going on.
        words = [
            *_words(recipe, settings or [], folder),
            "--nproc",
            str(nproc),
            "--timeout",
            str(timeout),
        ]
        words += ["--resume"] * resume + ["--json"] * as_json
        raise typer.Exit(launch(nproc, words, again))
    with joined(timeout) as world:
        try:
            _run(recipe, settings, folder, again, world, resume=resume, as_json=as_json)
        except (LostRankError, RequestError) as error:
            if world.rank:  # rank 0 says so too
                raise typer.Exit(error.exit_status) from error
            if isinstance(error, RequestError):
                raise
            kept = "the last good checkpoint is kept. Resume with"
            raise LostRankError(f"{error}; {kept}\n  {again}") from error


def _run(
    recipe: Path,
    settings: list[str] | None,
    folder: Path,
    again: str,
    world: "World",
    *,
    resume: bool,
    as_json: bool,
) -> None:
    """The run, in this process: alone, or as one of several ranks, of which the first speaks."""
    from espalier.planning import Plan
    from espalier.recipe import load
    from espalier.recipe._running import Job, run
    from espalier.training import show_progress

    first = world.rank == 0
    written = folder / "plan.yaml"
    # A plan that is written is the plan: to make one may take measurements.
    plan = Plan.load(written) if resume and written.is_file() else None
    job = Job.prepare(*load(recipe, settings or ()), plan)
    advise(job.advice() if first else ())
    warnings.simplefilter("ignore", AdviceWarning)  # the handles would say it again, hours later
    progress = show_progress(goal=job.task.goal) if first else nullcontext()
    with resumable(again), progress as on_event:
        done = run(job, folder, resume=resume, on_event=on_event, world=world)
    if not first:
        return
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


def _words(recipe: Path, settings: list[str], folder: Path) -> list[str]:
    words = ["prune", str(recipe)]
    for setting in settings:
        words += ["--set", setting]
    return [*words, "--out", str(folder)]


def _command(recipe: Path, settings: list[str], folder: Path, nproc: int | None) -> str:
    several = [] if nproc is None else ["--nproc", str(nproc)]
    return shlex.join(["espalier", *_words(recipe, settings, folder), *several, "--resume"])
