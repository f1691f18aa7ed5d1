"""Smaller and faster: what compacting and timing a run left in its folder, and who can use its zeros."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from espalier.errors import EspalierError
from espalier.report import _numbers as numbers
from espalier.report._numbers import MISSING, finite
from espalier.report._runs import Json, Run
from espalier.report._tables import Cell, Table, goes_along, set_name
from espalier.report._words import sentence
from espalier.report.figures import Drawing, widths
from espalier.sets import NOfM, Set, parse

_FILES = (
    ("safetensors", "weights.safetensors", "compact.espalier"),
    ("ONNX", "model.onnx", "compact.onnx"),
    ("packed", "model.packed", "compact.packed"),
)


@dataclass(frozen=True, kw_only=True)
class ProofShown:
    """The compact model against the masked one, in a word and a sentence."""

    holds: bool
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Smaller:
    """What there is of it; every part may be missing.

    Attributes:
        usable: Set by set, which runtime gains from its zeros.
        proof: Of the compact model.
        widths: Pictures of the architecture before and after.
        sizes: Counts, bytes, multiply-accumulates and files.
        remarks: What else is to be said of the compact model.
        latency: Milliseconds and ratios.
        timing: What is to be said of them: arithmetic against time, what was not measured, where.
    """

    usable: Sequence[tuple[str, str]]
    proof: ProofShown | None
    widths: Sequence[Drawing]
    sizes: Table | None
    remarks: Sequence[str]
    latency: Table | None
    timing: Sequence[str]


def smaller(run: Run, name: str) -> Smaller:
    """Everything that stands in ``compact.json`` and ``latency.json``, ready for the page."""
    said = run.compact or {}
    return Smaller(
        usable=_usable(run),
        proof=_proof(_part(said, "proof")),
        widths=widths(_widths(said), name),
        sizes=_sizes(run),
        remarks=_remarks(run, said),
        latency=_latency(run.latency or {}),
        timing=_timing(run.latency or {}),
    )


def _usable(run: Run) -> list[tuple[str, str]]:
    found: dict[str, Set] = {}
    for row in run.plan.values():
        if goes_along(row):
            continue
        try:
            which = parse(row.get("set", ""))
        except EspalierError:
            continue  # a set of another version; the table of layers names it
        found.setdefault(set_name(row), which)
    return [(told, f"{sentence(which.usable_by)}{_exact(which)}") for told, which in found.items()]


def _exact(which: Set) -> str:
    if not isinstance(which, NOfM):
        return ""
    return (
        f" The set is exact: of every {which.m} neighbours at most {which.n} are nonzero. Kernels that "
        "use this need a GPU; none was timed here."
    )


def _part(said: Json, key: str) -> Json:
    value = said.get(key)
    return value if isinstance(value, Mapping) else {}


def _proof(said: Json) -> ProofShown | None:
    difference, scale = finite(said.get("difference")), finite(said.get("scale"))
    if difference is None or scale is None:
        return None
    if said.get("mismatch"):
        return ProofShown(holds=False, sentence=f"{said['mismatch']}.")
    batches = [numbers.count(said.get(f"{kind}_batches")) for kind in ("random", "real")]
    sentence = (
        f"max |Δoutput| between the masked and the compact model is {numbers.scientific(difference)}, with "
        f"outputs up to {numbers.scientific(scale)}, on {batches[0]} random and {batches[1]} real batches, in "
        f"evaluation mode; {finite(said.get('tolerance')) or 0:g} of the largest output is allowed."
    )
    return ProofShown(holds=said.get("holds") is True, sentence=sentence)


def _widths(said: Json) -> list[tuple[str, float, float]]:
    layers = []
    for name, width in _part(said, "widths").items():
        pair = width if isinstance(width, Mapping) else {}
        before, after = finite(pair.get("before")), finite(pair.get("after"))
        if before is not None and after is not None:
            layers.append((str(name), before, after))
    return layers


def _sizes(run: Run) -> Table | None:
    said = run.compact or {}
    before, after, macs = (_part(said, key) for key in ("before", "after", "macs"))
    pairs = [
        ("parameters", before.get("parameters"), after.get("parameters")),
        ("of them not zero", before.get("nonzero"), after.get("nonzero")),
        ("bytes in memory", before.get("bytes"), after.get("bytes")),
        ("multiply-accumulates, one sample", macs.get("before"), macs.get("after")),
    ]
    pairs = [pair for pair in pairs if finite(pair[1]) is not None]
    if not pairs:
        return None
    for kind, masked, compact in _FILES:
        sizes = run.file_size(masked), run.file_size(compact)
        if kind == "safetensors" and sizes[1] is None:
            sizes = sizes[0], said.get("artefact_bytes")
        if any(size is not None for size in sizes):
            pairs.append((f"bytes on disk, {kind}", *sizes))
    rows = [
        [
            Cell(text=label),
            Cell(text=numbers.count(was)),
            Cell(text=numbers.count(now)),
            Cell(text=_ratio(was, now)),
        ]
        for label, was, now in pairs
    ]
    caption = (
        "Dense is as large as masked: zeros in place are stored and multiplied like any number. "
        "The compact file holds its proof and its edits too."
    )
    heads = ("", "masked", "compact", "masked / compact")
    return Table(heads=heads, words=(0,), rows=rows, caption=caption)


def _ratio(was: Any, now: Any) -> str:
    over, under = finite(was), finite(now)
    return numbers.ratio(over / under) if over is not None and under else MISSING


def _remarks(run: Run, said: Json) -> list[str]:
    told, goal = [], run.goal
    if said.get("removed") == 0:
        told.append("Nothing could be removed: the compact model is the masked one.")
    pure = _part(said, "purification")
    if pure:
        test = [numbers.figure(_part(pure, "test").get(key), goal) for key in ("before", "after")]
        told.append(
            "The masked model was purified first, which changes it: "
            f"{goal.name} on the {run.split} set {test[0]} before, {test[1]} after."
        )
    own = finite(_part(said, "metrics").get(goal.name))
    if own is not None:
        shown = numbers.figure(own, goal)
        told.append(f"The compact model's {goal.name} on the {run.split} set: {shown}.")
    constant = finite(said.get("constant"))
    if constant:
        told.append(
            f"Kept back: {numbers.count(constant)} channels whose filters are zero are constants that "
            "cannot be folded exactly."
        )
    told += [
        f"Kept back: {numbers.count(number)} channels, for {reason}."
        for reason, number in _part(said, "kept_back").items()
    ]
    return told


def _latency(said: Json) -> Table | None:
    timed = _rows(said)
    models = list(dict.fromkeys(row["model"] for row in timed))
    settings: dict[tuple[str, ...], dict[str, Json]] = {}
    for row in timed:
        setting = (numbers.count(row["batch"]), numbers.count(row["threads"]), row["runtime"])
        settings.setdefault(setting, {})[row["model"]] = row
    if not timed:
        return None
    rows = []
    for about, by_model in settings.items():
        cells = [Cell(text=part) for part in about]
        for model in models:
            row = by_model.get(model, {})
            cells.append(_spread(_part(row, "seconds"), numbers.milliseconds))
            if model != models[0]:
                speedup = _part(row, "speedup")
                faster = (finite(speedup.get("low")) or 0.0) > 1
                cells.append(_spread(speedup, numbers.ratio, strong=faster))
        rows.append(cells)
    heads = ["batch", "threads", "runtime", f"{models[0]}, ms"]
    for model in models[1:]:
        heads += [f"{model}, ms", f"{models[0]} / {model}"]
    caption = (
        "Time of a call: median, and the quartiles after it. Ratios are taken within a round, where the "
        "models stood side by side; above 1 is faster, bold where both quartiles are."
    )
    return Table(heads=heads, words=(2,), rows=rows, caption=caption)


def _rows(said: Json) -> list[Json]:
    rows = said.get("rows")
    return [row for row in rows if _is_row(row)] if isinstance(rows, list) else []


def _is_row(row: Any) -> bool:
    return (
        isinstance(row, Mapping)
        and all(isinstance(row.get(key), str) for key in ("model", "runtime"))
        and all(finite(row.get(key)) is not None for key in ("batch", "threads"))
        and finite(_part(row, "seconds").get("median")) is not None
    )


def _spread(values: Json, told: Any, strong: bool = False) -> Cell:
    if finite(values.get("median")) is None:
        return Cell(text=MISSING)
    note = f"{told(values.get('low'))}–{told(values.get('high'))}"
    return Cell(text=told(values["median"]), note=note, strong=strong)


def _timing(said: Json) -> list[str]:
    told = [sentence(x) for key in ("roofline", "remarks") for x in _lines(said.get(key))]
    hardware = _part(said, "hardware")
    where = [str(hardware[key]) for key in ("cpu", "gpu") if hardware.get(key)]
    where += [f"{package} {number}" for package, number in _part(said, "versions").items()]
    if where:
        told.append(f"Measured on {', '.join(where)}.")
    return told


def _lines(value: Any) -> list[str]:
    return [line for line in value if isinstance(line, str)] if isinstance(value, list) else []
