"""Plans as data: dictionaries and YAML, checked when read."""

import os
from collections.abc import Callable, Collection, Mapping
from itertools import groupby
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from espalier._ground.types import Keep
from espalier.errors import CheckpointError, RunFolderError, UnknownNameError, nearest
from espalier.measure import LayerKind
from espalier.planning._entry import Entry, Skipped, named
from espalier.sets import Along, Coupled, Shared, parse
from espalier.sets._coupled import STAYS

if TYPE_CHECKING:
    from espalier.planning._plan import Plan

VERSION = 1
_TOP = (
    "espalier_plan", "parameters", "shared", "coupled", "skipped", "between_activations", "notes"
)  # fmt: skip
_ENTRY = ("shape", "set", "keep", "layer_kind", "macs")
_SKIPPED = ("shape", "reason", "layer_kind", "macs", "left")
_COUPLED = ("groups", "members", "implied", "columns")
_LONGEST = 1 << 24  # indices of an axis that a file may ask for
_SHARED = ("set", "costs", "limit", "minimum")
T = TypeVar("T")


def to_dict(plan: "Plan") -> dict[str, Any]:
    """Nested dictionaries of JSON scalars; what is empty is left out."""
    data: dict[str, Any] = {
        "espalier_plan": VERSION,
        "parameters": {name: _entry_dict(entry) for name, entry in plan.entries.items()},
    }
    if plan.shared is not None:
        data["shared"] = {
            "set": plan.shared.set.spec(),
            "costs": dict(plan.shared.costs),
            "limit": plan.shared.limit,
            "minimum": plan.shared.minimum,
        }
    if plan.coupled is not None:
        data["coupled"] = _coupled_dict(plan.coupled)
    if plan.between_activations:
        data["between_activations"] = plan.between_activations
    if plan.notes:
        data["notes"] = list(plan.notes)
    if plan.skipped:
        data["skipped"] = {row.name: _skipped_dict(row) for row in plan.skipped}
    return data


def fields_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``Plan`` that the data say."""
    data = _mapping(data, "a plan")
    if data.get("espalier_plan") != VERSION:
        raise CheckpointError(
            f"espalier_plan is {data.get('espalier_plan')!r}, this version reads {VERSION}; "
            "is it a plan? Make it anew with `espalier plan`"
        )
    _known(data, _TOP, "the plan")
    rows = _mapping(_required(data, "parameters", "the plan"), "parameters")
    skipped = _mapping(data.get("skipped", {}), "skipped")
    return {
        "entries": {str(name): _entry(str(name), row) for name, row in rows.items()},
        "shared": None if data.get("shared") is None else _shared(data["shared"]),
        "coupled": None if data.get("coupled") is None else _coupled(data["coupled"]),
        "skipped": tuple(_skipped(str(name), row) for name, row in skipped.items()),
        "between_activations": _count(data.get("between_activations", 0), "between_activations"),
        "notes": tuple(str(note) for note in _list(data.get("notes", []), "notes")),
    }


def write(data: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """YAML, through a temporary file beside it and a rename: the old file or the new, never half."""
    target = Path(path)
    try:
        with NamedTemporaryFile(
            "w", encoding="utf-8", dir=target.parent, prefix=target.name, delete=False
        ) as file:
            try:
                yaml.safe_dump(data, file, sort_keys=False, allow_unicode=True, width=100)
                file.flush()
                os.fsync(file.fileno())
                os.replace(file.name, target)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise RunFolderError(f"cannot write {target}: {error.strerror or error}") from error


def read(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """YAML by the safe loader."""
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CheckpointError(f"is no YAML: {error}") from error
    return _mapping(data, "a plan")


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
    row = _mapping(row, name)
    _known(row, _ENTRY, name)
    shape, keep = _shape(row, name), _required(row, "keep", name)
    with named(name):
        which = parse(_required(row, "set", name))
    return Entry(
        name=name,
        shape=shape,
        set=which,
        keep=_keep(keep, name),
        layer_kind=_optional(row, "layer_kind", _kind, name) or LayerKind.OTHER,
        macs=_optional(row, "macs", _count, name),
    )


def _skipped(name: str, row: object) -> Skipped:
    row = _mapping(row, name)
    _known(row, _SKIPPED, name)
    return Skipped(
        name=name,
        shape=_shape(row, name),
        reason=str(_required(row, "reason", name)),
        layer_kind=_optional(row, "layer_kind", _kind, name),
        macs=_optional(row, "macs", _count, name),
        left=_optional(row, "left", _count, name),
    )


def _shared(row: object) -> Shared:
    row = _mapping(row, "shared")
    _known(row, _SHARED, "shared")
    costs = _mapping(_required(row, "costs", "shared"), "shared: costs")
    with named("shared"):
        which: Any = parse(_required(row, "set", "shared"))  # Shared refuses what cannot compete
        return Shared(
            which,
            {str(name): _count(cost, f"costs: {name}") for name, cost in costs.items()},
            _count(_required(row, "limit", "shared"), "limit"),
            _count(row.get("minimum", 1), "minimum"),
        )


def _coupled_dict(coupled: Coupled) -> dict[str, Any]:
    data: dict[str, Any] = {
        "groups": [list(pair) for pair in zip(coupled.keep, coupled.sizes, strict=True)],
        "members": {name: _along_dict(along) for name, along in coupled.members.items()},
        "implied": {
            name: [_along_dict(along) for along in alongs]
            for name, alongs in coupled.implied.items()
        },
    }
    return data | ({"columns": dict(coupled.columns)} if coupled.columns else {})


def _along_dict(along: Along) -> dict[str, Any]:
    """Units as runs [first, count, each]: ``each`` indices of every one of ``count`` units."""
    runs: list[list[int]] = []
    for unit, group in groupby(along.units):
        each = len(list(group))
        last = runs[-1] if runs else None
        if last is not None and unit >= 0 and last[0] >= 0 and last[2] == each:
            if unit == last[0] + last[1]:
                last[1] += 1
                continue
        runs.append([unit, 1, each])
    return {"axis": along.axis, "units": runs}


def _coupled(row: object) -> Coupled:
    row = _mapping(row, "coupled")
    _known(row, _COUPLED, "coupled")
    groups = [
        _counts(pair, 2, "coupled: groups")
        for pair in _list(_required(row, "groups", "coupled"), "coupled: groups")
    ]
    members = _mapping(_required(row, "members", "coupled"), "coupled: members")
    implied = _mapping(row.get("implied", {}), "coupled: implied")
    columns = _mapping(row.get("columns", {}), "coupled: columns")
    with named("coupled"):
        return Coupled(
            sizes=tuple(size for _, size in groups),
            keep=tuple(keep for keep, _ in groups),
            members={str(name): _along(along, str(name)) for name, along in members.items()},
            implied={
                str(name): tuple(_along(one, str(name)) for one in _list(alongs, str(name)))
                for name, alongs in implied.items()
            },
            columns={str(n): _count(k, f"{n}: columns") for n, k in columns.items()},
        )


def _along(row: object, name: str) -> Along:
    row = _mapping(row, name)
    _known(row, ("axis", "units"), name)
    units: list[int] = []
    for run in _list(_required(row, "units", name), f"{name}: units"):
        stays = isinstance(run, list) and run[:1] == [STAYS]
        first, count, each = _counts([0, *run[1:]] if stays else run, 3, f"{name}: units")
        if len(units) + count * each > _LONGEST:
            raise CheckpointError(
                f"{name}: more than {_LONGEST:,} indices; this is no plan of ours"
            )
        for unit in range(first, first + count):
            units += [STAYS if stays else unit] * each
    return Along(_count(_required(row, "axis", name), f"{name}: axis"), tuple(units))


def _counts(value: object, length: int, where: str) -> list[int]:
    counts = [_count(n, where) for n in _list(value, where)]
    if len(counts) != length:
        raise CheckpointError(f"{where} holds {value!r}; it must be {length} counts")
    return counts


def _keep(value: object, name: str) -> Keep:
    if isinstance(value, list) and len(value) == 2:
        return _count(value[0], f"{name}: keep"), _count(value[1], f"{name}: keep")
    return _count(value, f"{name}: keep")


def _shape(row: Mapping[str, Any], name: str) -> tuple[int, ...]:
    shape = _list(_required(row, "shape", name), f"{name}: shape")
    return tuple(_count(n, f"{name}: shape") for n in shape)


def _kind(value: object, where: str) -> LayerKind:
    kinds = [str(kind) for kind in LayerKind]
    if value not in kinds:
        raise UnknownNameError(f"{where}: no layer kind {value!r}; {nearest(str(value), kinds)}")
    return LayerKind(str(value))


def _count(value: object, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise CheckpointError(f"{where} is {value!r}; it must be a count, 0 or more")
    return value


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise CheckpointError(f"{where} is {value!r}; it must be a list")
    return value


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise CheckpointError(f"{where} is {type(value).__name__}; it must be a mapping")
    return value


def _required(row: Mapping[str, Any], key: str, where: str) -> Any:
    if key not in row:
        raise CheckpointError(f"{where} has no {key!r}; the plan is cut short")
    return row[key]


def _optional(
    row: Mapping[str, Any], key: str, read_as: Callable[[object, str], T], name: str
) -> T | None:
    return None if row.get(key) is None else read_as(row[key], f"{name}: {key}")


def _known(row: Mapping[str, Any], allowed: Collection[str], where: str) -> None:
    for key in row:
        if key not in allowed:
            raise UnknownNameError(f"{where} has no key {key!r}; {nearest(str(key), allowed)}")
