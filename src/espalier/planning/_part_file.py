"""Shared budgets and coupled units as data."""

from itertools import groupby
from typing import Any

from espalier.errors import CheckpointError
from espalier.planning._checked import a_list, count, counts, known, mapping, required
from espalier.sets import Along, Coupled, Shared, parse
from espalier.sets._along import STAYS
from espalier.sets._naming import named

_COUPLED = ("groups", "members", "implied", "columns")
_SHARED = ("set", "costs", "limit", "minimum")
_LONGEST = 1 << 24  # indices of an axis that a file may ask for


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


def _shared_dict(shared: Shared) -> dict[str, Any]:
    return {
        "set": shared.set.spec(),
        "costs": dict(shared.costs),
        "limit": shared.limit,
        "minimum": shared.minimum,
    }


def read_shared(row: object) -> Shared:
    """The inverse of ``part_dict`` for a shared budget."""
    row = mapping(row, "shared")
    known(row, _SHARED, "shared")
    costs = mapping(required(row, "costs", "shared"), "shared: costs")
    with named("shared"):
        which: Any = parse(required(row, "set", "shared"))  # Shared refuses what cannot compete
        return Shared(
            which,
            {str(name): count(cost, f"costs: {name}") for name, cost in costs.items()},
            count(required(row, "limit", "shared"), "limit"),
            count(row.get("minimum", 1), "minimum"),
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


def read_coupled(row: object) -> Coupled:
    """The inverse of ``part_dict`` for coupled units."""
    row = mapping(row, "coupled")
    known(row, _COUPLED, "coupled")
    groups = [
        counts(pair, 2, "coupled: groups")
        for pair in a_list(required(row, "groups", "coupled"), "coupled: groups")
    ]
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


def _along(row: object, name: str) -> Along:
    row = mapping(row, name)
    known(row, ("axis", "units"), name)
    units: list[int] = []
    for run in a_list(required(row, "units", name), f"{name}: units"):
        stays = isinstance(run, list) and run[:1] == [STAYS]
        first, many, each = counts([0, *run[1:]] if stays else run, 3, f"{name}: units")
        if len(units) + many * each > _LONGEST:
            raise CheckpointError(
                f"{name}: more than {_LONGEST:,} indices; this is no plan of ours"
            )
        for unit in range(first, first + many):
            units += [STAYS if stays else unit] * each
    return Along(count(required(row, "axis", name), f"{name}: axis"), tuple(units))
