"""Shared budgets, coupled units, and what they leave of a compact model as data."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, get_args

from espalier.errors import CheckpointError, shown
from espalier.planning._checked import a_list, count, counts, known, mapping, number, required
from espalier.planning._ledger import Delivered
from espalier.sets import Along, Coupled, Priced, Shared, parse
from espalier.sets._along import STAYS
from espalier.sets._naming import named
from espalier.sets._priced import By

_COUPLED = ("groups", "members", "implied", "columns")
_SHARED = ("set", "costs", "limit", "minimum", "prices")
_PRICES = ("parts", "rate", "by")
_ROOM = 1 << 22
"""Indices that the runs of a plan may stand for, and units that they may belong to: some hundred megabytes."""


def part_dict(part: Shared | Coupled) -> dict[str, Any]:
    """One mapping of what it is to what it says."""
    return (
        {"coupled": _coupled_dict(part)}
        if isinstance(part, Coupled)
        else {"shared": _shared_dict(part)}
    )


def read_part(row: object) -> Shared | Coupled:
    """The inverse of :func:`part_dict`."""
    row = mapping(row, "parts")
    known(row, ("shared", "coupled"), "parts")
    if len(row) != 1:
        raise CheckpointError(f"a part is {list(row)}; it must be one of shared, coupled")
    return read_shared(row["shared"]) if "shared" in row else read_coupled(row["coupled"])


def delivered_dict(found: Delivered) -> dict[str, Any]:
    """What the compact model has."""
    return {
        "macs": dict(found.macs),
        "between_activations": found.between_activations,
        "bytes": list(found.bytes),
    }


def read_delivered(row: object) -> Delivered | None:
    """The inverse of :func:`delivered_dict`."""
    if row is None:
        return None
    row = mapping(row, "delivered")
    known(row, ("macs", "between_activations", "bytes"), "delivered")
    macs = mapping(required(row, "macs", "delivered"), "delivered: macs")
    before, after = counts(required(row, "bytes", "delivered"), 2, "delivered: bytes")
    between = required(row, "between_activations", "delivered")
    return Delivered(
        macs={str(name): count(n, f"delivered: {name}") for name, n in macs.items()},
        between_activations=count(between, "delivered: between_activations"),
        bytes=(before, after),
    )


def _shared_dict(shared: Shared) -> dict[str, Any]:
    data: dict[str, Any] = {
        "set": shared.set.spec(),
        "costs": dict(shared.costs),
        "limit": shared.limit,
        "minimum": shared.minimum,
    }
    if isinstance(shared, Priced):
        data["prices"] = {"parts": dict(shared.parts), "rate": shared.rate, "by": shared.by}
    return data


def read_shared(row: object) -> Shared:
    """The inverse of ``part_dict`` for a shared budget."""
    row = mapping(row, "shared")
    known(row, _SHARED, "shared")
    costs = mapping(required(row, "costs", "shared"), "shared: costs")
    with named("shared"):
        which: Any = parse(required(row, "set", "shared"))  # Shared refuses what cannot compete
        one = Shared(
            which,
            {str(name): count(cost, f"costs: {name}") for name, cost in costs.items()},
            count(required(row, "limit", "shared"), "limit"),
            count(row.get("minimum", 1), "minimum"),
        )
        return one if row.get("prices") is None else _read_prices(row["prices"], one)


def _read_prices(row: object, shared: Shared) -> Priced:
    row = mapping(row, "prices")
    known(row, _PRICES, "prices")
    parts = mapping(required(row, "parts", "prices"), "prices: parts")
    by = required(row, "by", "prices")
    if by not in get_args(By):
        raise CheckpointError(f"prices: by is {shown(by)}; it must be one of {get_args(By)}")
    return Priced(
        shared.set, shared.costs, shared.limit, shared.minimum,
        {str(name): number(part, f"parts: {name}") for name, part in parts.items()},
        number(required(row, "rate", "prices"), "prices: rate"), by,
    )  # fmt: skip


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


def read_coupled(row: object) -> Coupled:
    """The inverse of ``part_dict`` for coupled units."""
    row = mapping(row, "coupled")
    known(row, _COUPLED, "coupled")
    groups = _groups(row)
    members = mapping(required(row, "members", "coupled"), "coupled: members")
    implied = mapping(row.get("implied", {}), "coupled: implied")
    columns = mapping(row.get("columns", {}), "coupled: columns")
    with named("coupled"):
        return Coupled(
            sizes=tuple(size for _, size in groups),
            keep=tuple(keep for keep, _ in groups),
            members={str(name): _along(along, str(name)) for name, along in members.items()},
            implied={
                str(name): tuple(_along(one, str(name)) for one in a_list(alongs, str(name)))
                for name, alongs in implied.items()
            },
            columns={str(n): count(k, f"{n}: columns") for n, k in columns.items()},
        )


def check_room(rows: Sequence[object]) -> None:
    """What the parts of a plan ask for, before any of it is made: a few letters can ask for everything.

    Raises:
        CheckpointError: Too many indices or units, runs of nothing, or no such data.
    """
    indices = units = 0
    for row in rows:
        row = mapping(row, "parts")
        if "coupled" not in row:
            continue
        coupled = mapping(row["coupled"], "coupled")
        units += sum(size for _, size in _groups(coupled))
        members = mapping(required(coupled, "members", "coupled"), "coupled: members")
        implied = mapping(coupled.get("implied", {}), "coupled: implied")
        alongs = [(str(name), along) for name, along in members.items()]
        for name, several in implied.items():
            alongs += [(str(name), along) for along in a_list(several, str(name))]
        for name, along in alongs:
            indices += sum(many * each for _, _, many, each in _runs(mapping(along, name), name))
    if max(indices, units) > _ROOM:
        raise CheckpointError(
            f"coupled: {shown(indices)} indices of {shown(units)} units, and at most {_ROOM:,} are read; "
            "this is no plan of ours"
        )


def _groups(row: Mapping[str, Any]) -> list[list[int]]:
    """[keep, size] of every group."""
    groups = a_list(required(row, "groups", "coupled"), "coupled: groups")
    return [counts(pair, 2, "coupled: groups") for pair in groups]


def _runs(row: Mapping[str, Any], name: str) -> Iterator[tuple[bool, int, int, int]]:
    """Whether the indices of a run stay, its first unit, how many there are, and the indices of each."""
    for run in a_list(required(row, "units", name), f"{name}: units"):
        stays = isinstance(run, list) and run[:1] == [STAYS]
        first, many, each = counts([0, *run[1:]] if stays else run, 3, f"{name}: units")
        if not many * each:
            raise CheckpointError(f"{name}: units: {shown(run)} is a run of nothing")
        yield stays, first, many, each


def _along(row: object, name: str) -> Along:
    row = mapping(row, name)
    known(row, ("axis", "units"), name)
    units: list[int] = []
    for stays, first, many, each in _runs(row, name):
        for unit in range(first, first + many):
            units += [STAYS if stays else unit] * each
    return Along(count(required(row, "axis", name), f"{name}: axis"), tuple(units))
