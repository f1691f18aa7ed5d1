"""``espalier compact``: what zeros make removable, removed and proved."""

import shlex
from collections.abc import Iterator
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from espalier.cli._output import AsJson, console, print_json

if TYPE_CHECKING:
    from rich.table import Table
    from torch import nn

    from espalier._ground.example import Example
    from espalier.compaction import Compact
    from espalier.planning import Plan
    from espalier.tasks import Task

_BATCHES = 4

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.", show_default=False)]


def compact(
    run: RunFolder,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="The artefact; by default compact.espalier in the run.",
            show_default=False,
        ),
    ] = None,
    multiple: Annotated[
        int, typer.Option("--multiple", min=1, help="Widths stay divisible by it.")
    ] = 1,
    gather: Annotated[
        float,
        typer.Option(
            "--gather",
            min=0.0,
            max=1.0,
            help="Convolutions with at most this fraction of their columns left hold those alone.",
        ),
    ] = 0.0,
    purify: Annotated[
        bool,
        typer.Option("--purify", help="First set to zero what is weak, as far as --guard allows."),
    ] = False,
    guard: Annotated[
        float,
        typer.Option(
            "--guard", min=0.0, help="How much of the goal's figure --purify may cost, in its unit."
        ),
    ] = 0.001,
    as_json: AsJson = False,
) -> None:
    """Remove what zeros made irrelevant, and prove the result.

    The smaller model is saved only if it computes what the masked one does.
    """
    from espalier._ground.files import plain, write_json
    from espalier.artifact import save
    from espalier.cli._purify import purified
    from espalier.compaction import compact as compacted
    from espalier.measure import layer_costs
    from espalier.recipe._running import reopened

    job, model = reopened(run)
    file = out or run / "compact.espalier"
    pure = purified(job, model, guard) if purify else None
    model = model if pure is None else pure.found.model
    found = compacted(
        model,
        job.task.example_input,
        real_batches(job.task),
        multiple=multiple,
        gather=gather,
    )
    metrics = plain(job.task.evaluate(found.model))
    purification = {} if pure is None else {"purification": pure.to_dict()}
    save(file, found, job.plan, metrics, {"recipe": dict(job.content), **purification})
    said = {
        "run": str(run),
        "artefact": str(file),
        "artefact_bytes": file.stat().st_size,
        "multiple": multiple,
        "metrics": metrics,
        "macs": {
            "before": layer_costs(model, job.task.example_input).total,
            "after": layer_costs(found.model, job.task.example_input).total,
        },
        **_plain(found, model),
        **purification,
    }
    write_json(run / "compact.json", said)
    if as_json:
        print_json(said)
        return
    screen = console()
    if pure is not None:
        screen.print(pure.found.table(title=f"{run}, purified"))
        for line in pure.remarks():
            print(line)
    screen.print(_table(found, model, title=str(run)))
    for line in remarks(found, job.plan):
        print(line)
    goal = job.task.goal
    if metrics[goal.name] is not None:
        print(f"{goal.name} of the compact model: {goal.shown(metrics[goal.name])}")
    print(f"artefact: {file} ({file.stat().st_size:,} bytes)")
    print(f"read it: espalier.load({str(file)!r}, make_model)")
    print(f"measure it: espalier measure {shlex.quote(str(run))} --latency")


def real_batches(task: "Task") -> "Iterator[Example]":
    """The first test batches, as the model sees them."""
    return task.inputs("test", _BATCHES)


def remarks(found: "Compact", plan: "Plan") -> list[str]:
    """The proof, what was kept back and why, one line for each; and what would help if nothing went."""
    from espalier.compaction import Edits

    lines = [str(found.proof)]
    if found.edits == Edits():
        lines.append(f"nothing was removed: {_why_nothing(found, plan)}")
    if found.constant:
        lines.append(
            f"kept back: {found.constant} channels whose filters are zero are constants that cannot be "
            "folded exactly (zero padding follows, or no bias); compact(zero_constants=True) in Python "
            "gives them up and says what that changes"
        )
    lines += [f"kept back: {count} channels, for {why}" for why, count in found.kept_back.items()]
    return lines


def _why_nothing(found: "Compact", plan: "Plan") -> str:
    sets = sorted({type(entry.set).__name__ for entry in plan.entries.values()})
    if found.before.nonzero == found.before.parameters:
        return "there is no zero in the model"
    if {"Filters", "Channels", "FiltersAndColumns"} & set(sets):
        return (
            "no filter or channel that is zero can be taken out on its own (residual adds tie them; "
            "widths stay a multiple; the last layer's outputs stay); a smaller budget would help"
        )
    return (
        f"no whole filter or channel is zero, for the zeros of {', '.join(sets)} lie scattered; "
        "prune with plan.set=filters or plan.set=channels to get a model that is physically smaller"
    )


def _changed(found: "Compact", model: "nn.Module") -> dict[str, tuple[list[int], list[int]]]:
    """The weights whose shape changed: name to before and after."""
    small = dict(found.model.named_parameters())
    return {
        name: (list(was.shape), list(small[name].shape))
        for name, was in model.named_parameters()
        if was.dim() > 1 and name in small and was.shape != small[name].shape
    }


def _table(found: "Compact", model: "nn.Module", title: str) -> "Table":
    from rich.table import Table

    table = Table(title=title)
    for header in ("", "masked", "compact", "ratio"):
        table.add_column(header, justify="right" if header else "left")
    before, after = found.before, found.after
    for name, was, now in (
        ("parameters", before.parameters, after.parameters),
        ("of them not zero", before.nonzero, after.nonzero),
        ("bytes in memory", before.bytes, after.bytes),
    ):
        table.add_row(name, f"{was:,}", f"{now:,}", f"{was / now:.2f}×" if now else "–")
    table.add_section()
    for name, (old, new) in _changed(found, model).items():
        table.add_row(name, _shape(old), _shape(new), f"{prod(old) / prod(new):.2f}×")
    return table


def _plain(found: "Compact", model: "nn.Module") -> dict[str, Any]:
    return {
        "before": asdict(found.before),
        "after": asdict(found.after),
        "removed": found.removed,
        "shapes": {n: {"before": b, "after": a} for n, (b, a) in _changed(found, model).items()},
        "widths": _widths(found, model),
        "proof": {**asdict(found.proof), "holds": found.proof.holds},
        "kept_back": found.kept_back,
        "constant": found.constant,
    }


def _widths(found: "Compact", model: "nn.Module") -> dict[str, dict[str, int]]:
    """Outputs of every convolution and linear layer, by its weight's name; 0 where it is gone."""
    before, after = _outputs(model), _outputs(found.model)
    return {name: {"before": width, "after": after.get(name, 0)} for name, width in before.items()}


def _outputs(model: "nn.Module") -> dict[str, int]:
    from espalier.measure import owners

    weights = dict(model.named_parameters())
    return {
        name: weights[name].shape[0 if owner.kind.outputs_first else 1]
        * (1 if owner.kind.outputs_first else owner.groups)
        for name, owner in owners(model).items()
        if owner.kind.is_conv or owner.kind.is_linear
    }


def _shape(sizes: list[int]) -> str:
    return "×".join(str(size) for size in sizes)
