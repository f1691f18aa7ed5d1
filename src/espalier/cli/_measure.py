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
    latency: Annotated[
        bool,
        typer.Option(
            "--latency", help="Time a run's dense, masked and compact model side by side."
        ),
    ] = False,
    with_compile: Annotated[
        bool, typer.Option("--compile", help="With --latency: under torch.compile too; slow.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Count weights, multiply-accumulates and bytes; or time a run.

    Weights are counted under every convention.
    """
    from espalier._ground.files import write_json
    from espalier.cli._latency import latency_table, run_latency
    from espalier.errors import RequestError
    from espalier.measure import measure as measured
    from espalier.measure import measure_table
    from espalier.recipe import load
    from espalier.recipe._running import Job, reopened

    if with_compile and not latency:
        raise RequestError("--compile says how to time; give --latency too")
    if latency and not subject.is_dir():
        raise RequestError(
            f"{subject}: --latency compares the models of a run that has ended; give its folder"
        )
    if subject.is_dir():
        job, model = reopened(subject)
    else:
        job = Job.prepare(*load(subject, settings or ()))
        model = job.model
    found = measured(model, job.task.example_input, pruned=job.plan.names)
    timed = run_latency(subject, job, model, with_compile=with_compile) if latency else None
    if timed is not None:
        write_json(subject / "latency.json", timed.to_dict())
    if as_json:
        times = {} if timed is None else {"latency": timed.to_dict()}
        print_json({**_plain(found, str(subject)), **times})
        return
    screen = console()
    screen.print(measure_table(found, title=str(subject)))
    if timed is not None:
        screen.print(latency_table(timed, title="Latency"))
        for line in (*timed.roofline, *timed.remarks):
            print(line)


def _plain(found: Any, subject: str) -> dict[str, Any]:
    return {
        "subject": subject,
        "counts": found.counts.to_dict(),
        "macs": {"dense": found.macs, "left": found.macs_left},
        "bytes": {"dense": found.sizes.dense, "sparse": found.sizes.sparse},
    }
