"""Pydantic's findings as a person would say them: the place in the recipe, what is wrong, what is allowed."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from espalier.errors import nearest, shown

_OURS = {
    "unknown_key",
    "unknown_name",
    "no_name",
    "not_a_mapping",
    "keep",
    "part",
    "cadence",
    "figures",
    "refused",
    "two_words",
}


def messages(error: ValidationError, content: Any) -> list[str]:
    """One line for every mistake, in the order of the recipe.

    Args:
        error: What validation raised.
        content: The data that were validated.
    """
    said: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False):
        path = _path(detail["loc"], content)
        if detail["type"] == "unknown_key":
            path = ".".join(filter(None, [path, str(detail["ctx"]["key"])]))
        said.setdefault(path, [])
        text = _text(detail)
        if text not in said[path]:
            said[path].append(text)
    return [
        f"{path}: {' or '.join(texts)}" if path else " or ".join(texts)
        for path, texts in said.items()
    ]


def _text(detail: ErrorDetails) -> str:
    if detail["type"] in _OURS:
        return detail["msg"]
    if detail["type"] == "missing":
        return "required, but not there"
    if detail["type"] == "literal_error" and isinstance(detail["input"], str):
        allowed = re.findall(r"'([^']*)'", detail["ctx"]["expected"])
        return f"no such name {_shown(detail['input'])}; {nearest(detail['input'], allowed)}"
    said = detail["msg"].removeprefix("Input should be ")
    said = said[0].lower() + said[1:]
    return f"{_shown(detail['input'])} should be {said}"


def _shown(value: Any) -> str:
    return shown(value, 60)


def _path(location: Sequence[int | str], content: Any) -> str:
    """The keys a person wrote; pydantic's own names of union members are left out."""
    parts: list[str] = []
    at = content
    for position, part in enumerate(location):
        if isinstance(at, Mapping) and part in at:
            at = at[part]
        elif isinstance(at, Mapping) and len(at) == 1 and _inside(at, part):
            (name,) = at
            parts.append(str(name))
            at = at[name][part]
        elif isinstance(at, list) and isinstance(part, int) and part < len(at):
            at = at[part]
        elif position < len(location) - 1 or not isinstance(at, Mapping) or "[" in str(part):
            continue
        elif isinstance(at, Mapping) and at.get("method") == part:
            continue
        parts.append(str(part))
    return ".".join(parts)


def _inside(at: Mapping[Any, Any], part: int | str) -> bool:
    inner = next(iter(at.values()))
    return isinstance(inner, Mapping) and part in inner
