"""Choices as plain data, so that one run's can be told from another's; and what two of them differ in."""

import hashlib
import json
import math
import reprlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import Any

Plain = Any
"""None, bool, int, float, str; dicts by string and lists of these: what JSON gives back as it was."""


def described(value: Any) -> Plain:
    """A frozen choice as plain data: classes by name with their fields, functions by name.

    What has a method of this name says it itself. Of an object that is no dataclass the class alone is known, and of
    a function not what it does.

    >>> described(PurePath("a")), described({"at": (1, float("inf"))}), described(math.sqrt)
    ('a', {'at': [1, 'inf']}, 'math:sqrt')
    """
    own = getattr(value, "described", None)
    if callable(own) and not isinstance(value, type):
        return own()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): described(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [described(one) for one in value]
    if isinstance(value, PurePath):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        own_fields = {f.name: described(getattr(value, f.name)) for f in fields(value)}
        return {"is": qualified(type(value)), **own_fields}
    return qualified(value if hasattr(value, "__qualname__") else type(value))


def qualified(thing: Any) -> str:
    """Where a class or function is defined.

    >>> qualified(PurePath)
    'pathlib:PurePath'
    """
    return f"{thing.__module__}:{thing.__qualname__}"


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys to what stands there.

    >>> flat({"training": {"lr": 0.1}, "goal": None})
    {'training.lr': 0.1, 'goal': None}
    """
    if not isinstance(value, Mapping) or not value:
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= flat(inner, f"{prefix}.{key}" if prefix else str(key))
    return found


def differences(was: Plain, now: Plain, most: int = 4) -> str:
    """In what two descriptions differ, for people; empty where they are alike.

    >>> differences({"seed": 0, "lr": 1.0}, {"seed": 3, "lr": 1.0})
    'seed was 0 and is now 3'
    """
    old, new = flat(was), flat(now)
    keys = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    said = [_difference(key, old.get(key), new.get(key)) for key in keys[:most]]
    more = [f"{len(keys) - most} more"] if len(keys) > most else []
    return "; ".join(said + more)


def _difference(key: str, was: Any, now: Any) -> str:
    if any(isinstance(one, str) and one.startswith("sha256:") for one in (was, now)):
        return f"{key} is not the same"
    return f"{key} was {reprlib.repr(was)} and is now {reprlib.repr(now)}"


def digest(value: Plain) -> str:
    """SHA-256 of plain data, by its JSON.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    text = json.dumps(described(value), sort_keys=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
