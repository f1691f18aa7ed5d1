"""Plans as data: dictionaries and YAML, checked when read."""

import os
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from espalier._ground.documents import MAX_TEXT, dump_yaml, parse_yaml
from espalier._ground.files import write_bytes
from espalier._ground.reading import read_text
from espalier._ground.types import Keep
from espalier.errors import CheckpointError, UnknownNameError, nearest, shown
from espalier.measure import LayerKind
from espalier.planning._checked import a_list, count, known, mapping, optional, required
from espalier.planning._entry import Entry, Skipped
from espalier.planning._ledger import Ledger
from espalier.planning._part_file import (
    check_room,
    delivered_dict,
    part_dict,
    read_delivered,
    read_part,
)
from espalier.sets import Coupled, Levels, Shared, parse
from espalier.sets._naming import named

VERSION = 2
_SAME = ("espalier_plan", "parameters", "skipped", "between_activations", "notes", "delivered")
_TOP = {1: (*_SAME, "shared", "coupled"), 2: (*_SAME, "parts", "levels")}
"""The keys by version: a plan of version 1 had one part at most."""
_MAX_DIMENSIONS = 64
_MAX_WEIGHTS = 1 << 40
_ENTRY = ("shape", "set", "keep", "layer_kind", "macs")
_SKIPPED = ("shape", "reason", "layer_kind", "macs", "left")


def to_dict(plan: Ledger) -> dict[str, Any]:
    """Nested dictionaries of JSON scalars; what is empty is left out."""
    data: dict[str, Any] = {
        "espalier_plan": VERSION,
        "parameters": {name: _entry_dict(entry) for name, entry in plan.entries.items()},
    }
    if plan.parts:
        data["parts"] = [part_dict(part) for part in plan.parts]
    if plan.levels:
        data["levels"] = {name: levels.bits for name, levels in plan.levels.items()}
    if plan.between_activations:
        data["between_activations"] = plan.between_activations
    if plan.delivered is not None:
        data["delivered"] = delivered_dict(plan.delivered)
    if plan.notes:
        data["notes"] = list(plan.notes)
    if plan.skipped:
        data["skipped"] = {row.name: _skipped_dict(row) for row in plan.skipped}
    return data


def fields_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``Plan`` that the data say."""
    data = mapping(data, "a plan")
    version = data.get("espalier_plan")
    if not isinstance(version, int) or isinstance(version, bool) or version not in _TOP:
        raise CheckpointError(
            f"espalier_plan is {shown(version)}, this version reads 1 to {VERSION}; "
            "is it a plan? Make it anew with `espalier plan`"
        )
    known(data, _TOP[version], "the plan")
    rows = mapping(required(data, "parameters", "the plan"), "parameters")
    skipped = mapping(data.get("skipped", {}), "skipped")
    levels = mapping(data.get("levels", {}), "levels")
    return {
        "entries": {str(name): _entry(str(name), row) for name, row in rows.items()},
        "parts": _parts(data),
        "levels": {str(name): _levels(str(name), bits) for name, bits in levels.items()},
        "skipped": tuple(_skipped(str(name), row) for name, row in skipped.items()),
        "between_activations": count(data.get("between_activations", 0), "between_activations"),
        "notes": tuple(str(note) for note in a_list(data.get("notes", []), "notes")),
        "delivered": read_delivered(data.get("delivered")),
    }


def write(data: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """YAML, all at once: the old file or the new, never half."""
    write_bytes(Path(path), dump_yaml(data).encode())


def read(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """YAML of at most ``MAX_TEXT`` bytes."""
    try:
        data = parse_yaml(read_text(path, MAX_TEXT))
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise CheckpointError(f"is no YAML: {error}") from error
    return mapping(data, "a plan")


def _parts(data: Mapping[str, Any]) -> tuple[Shared | Coupled, ...]:
    rows = list(a_list(data.get("parts", []), "parts"))
    rows += [{name: data[name]} for name in ("shared", "coupled") if data.get(name) is not None]
    check_room(rows)
    return tuple(read_part(row) for row in rows)


def _levels(name: str, bits: object) -> Levels:
    with named(name):
        return Levels(count(bits, "levels"))


def _entry_dict(entry: Entry) -> dict[str, Any]:
    keep = list(entry.keep) if isinstance(entry.keep, tuple) else entry.keep
    row: dict[str, Any] = {"shape": list(entry.shape), "set": entry.set.spec(), "keep": keep}
    row["layer_kind"] = str(entry.layer_kind)
    return row if entry.macs is None else row | {"macs": entry.macs}


def _skipped_dict(skipped: Skipped) -> dict[str, Any]:
    row: dict[str, Any] = {"shape": list(skipped.shape), "reason": skipped.reason}
    if skipped.layer_kind is not None:
        row["layer_kind"] = str(skipped.layer_kind)
    more = {"macs": skipped.macs, "left": skipped.left}
    return row | {key: value for key, value in more.items() if value is not None}


def _entry(name: str, row: object) -> Entry:
    row = mapping(row, name)
    known(row, _ENTRY, name)
    shape, keep = _shape(row, name), required(row, "keep", name)
    with named(name):
        which = parse(required(row, "set", name))
    return Entry(
        name=name,
        shape=shape,
        set=which,
        keep=_keep(keep, name),
        layer_kind=optional(row, "layer_kind", _kind, name) or LayerKind.OTHER,
        macs=optional(row, "macs", count, name),
    )


def _skipped(name: str, row: object) -> Skipped:
    row = mapping(row, name)
    known(row, _SKIPPED, name)
    return Skipped(
        name=name,
        shape=_shape(row, name),
        reason=str(required(row, "reason", name)),
        layer_kind=optional(row, "layer_kind", _kind, name),
        macs=optional(row, "macs", count, name),
        left=optional(row, "left", count, name),
    )


def _keep(value: object, name: str) -> Keep:
    if isinstance(value, list) and len(value) == 2:
        return count(value[0], f"{name}: keep"), count(value[1], f"{name}: keep")
    return count(value, f"{name}: keep")


def _shape(row: Mapping[str, Any], name: str) -> tuple[int, ...]:
    sizes = a_list(required(row, "shape", name), f"{name}: shape")
    shape = tuple(count(n, f"{name}: shape") for n in sizes)
    if len(shape) > _MAX_DIMENSIONS or prod(shape) > _MAX_WEIGHTS:
        raise CheckpointError(f"{name}: shape {shown(shape)} is beyond all tensors")
    return shape


def _kind(value: object, where: str) -> LayerKind:
    kinds = [str(kind) for kind in LayerKind]
    if value not in kinds:
        raise UnknownNameError(
            f"{where}: no layer kind {shown(value)}; {nearest(str(value), kinds)}"
        )
    return LayerKind(str(value))
