"""``espalier measure``: counts under every convention, multiply-accumulates, bytes."""

from pathlib import Path
from typing import Annotated, Any

import typer

from espalier.cli._output import AsJson, Settings, console, print_json


def measure(
    subject: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|RECIPE",
            help="A run folder, or a recipe for its model.",
            show_default=False,
        ),
    ],
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Count weights under every convention, multiply-accumulates and bytes."""
    from espalier.measure import measure as measured
    from espalier.measure import measure_table
    from espalier.recipe import load
    from espalier.recipe.running import Job, reopened

    if subject.is_dir():
        job, model = reopened(subject)
    else:
        job = Job.prepare(*load(subject, settings or ()))
        model = job.model
    found = measured(model, job.task.example_input, pruned=job.plan.names)
    if as_json:
        print_json(_plain(found, str(subject)))
    else:
        console().print(measure_table(found, title=str(subject)))


def _plain(found: Any, subject: str) -> dict[str, Any]:
    return {
        "subject": subject,
        "counts": found.counts.to_dict(),
        "macs": {"dense": found.macs, "left": found.macs_left},
        "bytes": {"dense": found.sizes.dense, "sparse": found.sizes.sparse},
    }
