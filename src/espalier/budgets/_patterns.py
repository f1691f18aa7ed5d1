"""Values by parameter name or glob: ``{"conv1.weight": 100, "layer*.weight": 0.1}``."""

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TypeVar

from espalier.errors import UnknownNameError, nearest

T = TypeVar("T")
_FEW = 12


def is_glob(pattern: str) -> bool:
    """Whether it is a pattern and not the name of one parameter."""
    return any(character in pattern for character in "*?[")


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """The names it matches, in their order; a dot is nothing special.

    >>> matching("layer*.weight", ["conv1.weight", "layer1.0.conv1.weight"])
    ['layer1.0.conv1.weight']
    """
    return [name for name in names if name == pattern or fnmatchcase(name, pattern)]


def check_patterns(patterns: Iterable[str], names: Collection[str], argument: str) -> None:
    """Raise ``UnknownNameError`` for a pattern that matches nothing, with the nearest name."""
    for pattern in patterns:
        if not matching(pattern, names):
            kind = "matches the pattern" if is_glob(pattern) else "is called"
            raise UnknownNameError(
                f"{argument}: no parameter {kind} {pattern!r}; {hint(pattern, names)}"
            )


def assign(patterns: Mapping[str, T], names: Collection[str], argument: str) -> dict[str, T]:
    """The value of each name that a pattern matches, in the order of ``names``.

    A full name wins over globs; of globs, the first that matches.

    Args:
        patterns: value by name or glob.
        names: the names there are.
        argument: what the patterns came from, for the message.

    Raises:
        UnknownNameError: a pattern that matches nothing.

    Example:
        >>> assign({"*": 1, "b.*": 2, "b.x": 3}, ["a", "b.x", "b.y"], "keep")
        {'a': 1, 'b.x': 3, 'b.y': 1}
    """
    check_patterns(patterns, names, argument)
    found = {}
    for name in names:
        if name in patterns:
            found[name] = patterns[name]
            continue
        for pattern, value in patterns.items():
            if fnmatchcase(name, pattern):
                found[name] = value
                break
    return found


def hint(pattern: str, names: Collection[str]) -> str:
    """The nearest name, and all of them only when they are few."""
    bare = pattern.translate(str.maketrans("", "", "*?[]"))
    if len(names) <= _FEW:
        return nearest(bare, names)
    close = get_close_matches(bare, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}The {len(names)} names are those of model.named_parameters()"
