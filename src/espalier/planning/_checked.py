"""Data from a file as what they must be, or an error that says where they are not."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from espalier.errors import CheckpointError, UnknownNameError, nearest, shown

T = TypeVar("T")

_LIMIT = 1 << 62


def counts(value: object, length: int, where: str) -> list[int]:
    """So many counts."""
    found = [count(n, where) for n in a_list(value, where)]
    if len(found) != length:
        raise CheckpointError(f"{where} holds {shown(value)}; it must be {length} counts")
    return found


def count(value: object, where: str) -> int:
    """A count, 0 or more, that fits in 62 bits."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _LIMIT:
        raise CheckpointError(f"{where} is {shown(value)}; it must be a count, 0 or more")
    return value


def number(value: object, where: str) -> float:
    """A number, 0 or more, that is finite."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < _LIMIT:
        raise CheckpointError(f"{where} is {shown(value)}; it must be a number, 0 or more")
    return float(value)


def a_list(value: object, where: str) -> list[Any]:
    """A list."""
    if not isinstance(value, list):
        raise CheckpointError(f"{where} is {shown(value)}; it must be a list")
    return value


def mapping(value: object, where: str) -> Mapping[str, Any]:
    """A mapping."""
    if not isinstance(value, Mapping):
        raise CheckpointError(f"{where} is {type(value).__name__}; it must be a mapping")
    return value


def required(row: Mapping[str, Any], key: str, where: str) -> Any:
    """The value of a key that must be there."""
    if key not in row:
        raise CheckpointError(f"{where} has no {key!r}; the plan is cut short")
    return row[key]


def optional(
    row: Mapping[str, Any], key: str, read_as: Callable[[object, str], T], name: str
) -> T | None:
    """The value of a key that may be missing, read as what it must be."""
    return None if row.get(key) is None else read_as(row[key], f"{name}: {key}")


def known(row: Mapping[str, Any], allowed: Collection[str], where: str) -> None:
    """Nothing but known keys."""
    for key in row:
        if key not in allowed:
            raise UnknownNameError(f"{where} has no key {shown(key)}; {nearest(str(key), allowed)}")
