"""``espalier pack`` and ``espalier unpack``: weights in a file as small as they are, and back."""

from dataclasses import asdict
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from espalier.cli._output import AsJson, console, print_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table
    from torch import Tensor

    from espalier.packing import Packing
    from espalier.recipe._running import Job

_MUCH = 0.25  # of the file, from which what is not a weight deserves a word


def pack(
    subject: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|FILE",
            help="A run folder: its masked model. An artefact: the weights in it.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="By default model.packed in the run, or the artefact's name with .packed.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the weights in as few bytes as they need.

    They are read back and compared, bit for bit.
    """
    from espalier import artifact, packing
    from espalier.errors import RunError
    from espalier.recipe._running import reopened

    job: Job | None = None
    before: int | None = None
    if subject.is_dir():
        job, model = reopened(subject)
        tensors: Mapping[str, Tensor] = model.state_dict()
        file = out or subject / "model.packed"
    else:
        tensors = artifact.state_dict(subject)
        stored = artifact.inspect(subject)
        before = None if stored.before is None else stored.before.parameters
        file = out or subject.with_suffix(".packed")
    found = packing.pack(file, tensors)
    back = packing.unpack(file, limit=max(packing.LIMIT, _bytes(tensors)))
    wrong = packing.differing(tensors, back)
    if wrong:
        raise RunError(f"{file}: {wrong[0]} does not come back bit for bit; please report this")
    metrics = {} if job is None else _metrics(job, back)
    if as_json:
        answer = {"file": str(file), "round_trip": True, "metrics": metrics, "before": before}
        print_json({**_plain(found), **answer})
        return
    console().print(_table(found, title=str(subject)))
    for line in _totals(found):
        print(line)
    if before is not None:
        print(
            f"{4 * before / found.file_bytes:,.1f}× smaller than the {before:,} parameters there were "
            "before compaction, at 4 bytes each"
        )
    print(f"round trip: {len(back)} tensors unpacked, each bit for bit the same")
    goal = None if job is None else job.task.goal
    if goal is not None and metrics[goal.name] is not None:
        print(f"{goal.name} of the unpacked model: {goal.shown(metrics[goal.name])}")
    print(f"packed: {file} ({found.file_bytes:,} bytes)")
    print(f"read it: espalier.unpack({str(file)!r})")


def unpack(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A packed file.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="By default the file's name with .safetensors.", show_default=False
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            min=1,
            help="Bytes the tensors may take; by default what the file's length pays for, 1 GiB at most.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the weights of a packed file as safetensors."""
    from safetensors.torch import save

    from espalier._ground.files import write_bytes
    from espalier.packing import unpack as unpacked

    tensors = unpacked(file, limit=limit)
    target = out or file.with_suffix(".safetensors")
    content = save(tensors)
    write_bytes(target, content)
    if as_json:
        print_json({"file": str(target), "bytes": len(content), "tensors": len(tensors)})
        return
    print(f"{len(tensors)} tensors: {target} ({len(content):,} bytes)")


def _metrics(job: "Job", tensors: "Mapping[str, Tensor]") -> dict[str, Any]:
    from espalier._ground.files import plain

    job.model.load_state_dict(dict(tensors))
    found: dict[str, Any] = plain(job.task.evaluate(job.model))
    return found


def _bytes(tensors: "Mapping[str, Tensor]") -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _table(found: "Packing", title: str) -> "Table":
    from rich.table import Table

    table = Table(title=title, caption="bytes; bound: log₂ C(n, k) / 8, for scattered positions")
    for header in ("", "shape", "positions", "values"):
        table.add_column(header)
    for header in ("nonzero", "index", "bound", "data", "codebook"):
        table.add_column(header, justify="right")
    for row in found.tensors:
        table.add_row(
            row.name, "×".join(map(str, row.shape)) or "–", row.positions, row.values,
            f"{row.nonzero:,}", _size(row.index_bits), _size(row.bound_bits),
            _size(row.data_bits), _size(row.codebook_bits),
        )  # fmt: skip
    table.add_section()
    table.add_row(
        "all", "", "", "", f"{sum(row.nonzero for row in found.tensors):,}",
        _size(found.index_bits), _size(sum(row.bound_bits for row in found.tensors)),
        _size(found.data_bits), _size(found.codebook_bits),
    )  # fmt: skip
    return table


def _totals(found: "Packing") -> list[str]:
    weights = sum(row.bits for row in found.weights)
    others = sum(row.bits for row in found.tensors) - weights
    lines = [
        f"{found.file_bytes:,} bytes: weights {_size(weights)}, biases and the rest {_size(others)}, "
        f"header {_size(found.header_bits)}, filling {_size(found.filling_bits)}",
        f"{found.ratio:,.1f}× smaller than 4 bytes per parameter; weights alone, header and biases left "
        f"out: {found.weights_ratio:,.1f}×",
        f"counted as papers do, on weights: {found.data_ratio:,.1f}× data alone, "
        f"{found.paper_ratio:,.1f}× with a relative index of the best width",
        f"scattered positions and values of fixed width need {_size(found.bound_bits)} bytes at least",
    ]
    if others > _MUCH * 8 * found.file_bytes:
        lines.append(
            f"{others / 8 / found.file_bytes:.0%} of the file is no weight: biases in half precision, "
            "or fewer of them in a compact model, would help more than more zeros"
        )
    return lines


def _size(bits: float) -> str:
    """Bytes, to a tenth where they are few.

    >>> _size(27344), _size(1_000_001), _size(0)
    ('3,418.0', '125,000', '–')
    """
    if not bits:
        return "–"
    return f"{bits / 8:,.1f}" if bits < 8e5 else f"{bits / 8:,.0f}"


def _plain(found: "Packing") -> dict[str, Any]:
    ratios = ("ratio", "data_ratio", "paper_ratio", "weights_ratio")
    return {
        "bytes": found.file_bytes,
        "parameters": found.parameters,
        **{
            name: getattr(found, name)
            for name in ("index_bits", "data_bits", "codebook_bits", "header_bits", "filling_bits")
        },
        "bound_bits": found.bound_bits,
        **{name: getattr(found, name) if getattr(found, name) < inf else None for name in ratios},
        "tensors": {
            row.name: {
                **{key: value for key, value in asdict(row).items() if key != "name"},
                "paper_data_bits": row.paper_data_bits,
                "paper_index_bits": row.paper_index_bits,
            }
            for row in found.tensors
        },
    }
