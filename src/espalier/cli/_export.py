"""``espalier export``: a run or an artefact for another runtime."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from espalier.cli._output import AsJson, print_json

if TYPE_CHECKING:
    from torch import nn

    from espalier.recipe._running import Job


def export(
    subject: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|FILE",
            help="A run folder: its masked model. An artefact: the model in it.",
            show_default=False,
        ),
    ],
    to: Annotated[Literal["onnx"], typer.Option("--to", help="The format.")] = "onnx",
    run: Annotated[
        Path | None,
        typer.Option(
            "--run",
            help="The run an artefact comes from; by default the folder it lies in.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="By default the artefact's name, or model, with .onnx.",
            show_default=False,
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch", min=1, help="A fixed batch size; by default any.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a model as ONNX, checked in ONNX Runtime."""
    from espalier._ground.example import one_tensor
    from espalier._ground.files import write_bytes
    from espalier.cli._compact import real_batches
    from espalier.export import to_onnx

    job, model, kind = _model(subject, run)
    example = one_tensor(job.task.example_input, "export to ONNX")
    real = (one_tensor(inputs, "export to ONNX") for inputs in real_batches(job.task))
    found = to_onnx(model, example, real, batch=batch)
    file = out or (subject / "model.onnx" if subject.is_dir() else subject.with_suffix(".onnx"))
    write_bytes(file, found.data)
    if as_json:
        print_json(
            {"file": str(file), "model": kind, "bytes": len(found.data), "batch": found.batch,
             "difference": found.difference, "scale": found.scale, "batches": found.batches}
        )  # fmt: skip
        return
    size = "any batch size" if found.batch is None else f"batch size {found.batch} only"
    print(f"{kind} model: {file} ({len(found.data):,} bytes, {size})")
    print(found)
    if kind == "masked":
        print("its zeros are in place and save no time; espalier compact takes them out")


def _model(subject: Path, run: Path | None) -> "tuple[Job, nn.Module, str]":
    from espalier.artifact import inspect
    from espalier.compaction import Edits
    from espalier.recipe._running import reopened

    if subject.is_dir():
        return *reopened(subject), "masked"
    kind = "masked" if inspect(subject).edits == Edits() else "compact"
    job, _ = reopened(run or subject.parent)
    return job, stored_model(subject, job), kind


def stored_model(artefact: Path, job: "Job") -> "nn.Module":
    """The model in an artefact, built as its run says."""
    from espalier.artifact import load
    from espalier.recipe._building import make_model

    # The run says how the model is built: an artefact may come from anywhere, and names no code.
    without_weights = job.recipe.model_copy(
        update={"model": job.recipe.model.model_copy(update={"weights": None})}
    )
    return load(artefact, lambda: make_model(without_weights, job.task.model_arguments))
