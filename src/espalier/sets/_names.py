"""Sets by name, as recipes and plans write them."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from espalier._ground.registry import Members, is_reference, resolve
from espalier.errors import RequestError, UnknownNameError, nearest, shown
from espalier.sets._set import Set

NAMES: Mapping[str, type[Set]] = Members(Set)  # type: ignore[type-abstract]
"""Every set of this package, by the name a recipe gives it."""


def parse(spec: str | Mapping[str, Mapping[str, Any]]) -> Set:
    """The set that a recipe or a plan names; the inverse of :meth:`Set.spec`.

    A set of your own is ``package.module:Name``; its module must have been imported, for plans are read from
    files, and nothing that a file says is executed.

    Args:
        spec: A name, or a mapping of one name to its arguments.

    Raises:
        UnknownNameError: No set, or no argument of the set, has the name; the nearest is suggested.
        RequestError: Arguments that are missing, or that the set refuses.

    Example:
        >>> parse("filters")
        Filters()
        >>> parse({"n_of_m": {"n": 2, "m": 4}}).spec()
        {'n_of_m': {'n': 2, 'm': 4}}
    """
    if isinstance(spec, str):
        spec = {spec: {}}
    if not isinstance(spec, Mapping) or len(spec) != 1:
        raise RequestError(f"a set is a name or one name with its arguments, not {shown(spec)}")
    ((name, arguments),) = spec.items()
    if not is_reference(str(name)) and name not in NAMES:
        raise UnknownNameError(f"no set is called {shown(name)}; {nearest(str(name), NAMES)}")
    cls = resolve(str(name), Set, import_=False)
    known = {
        field.name: field.default is MISSING and field.default_factory is MISSING
        for field in fields(cls)
    }
    example = ", ".join(f"{argument}: …" for argument in known)
    if not isinstance(arguments, Mapping):
        raise RequestError(f"{name}: arguments are a mapping {{{example}}}, not {shown(arguments)}")
    for argument in arguments:
        if argument not in known:
            hint = nearest(str(argument), known) if known else "it takes no arguments"
            raise UnknownNameError(f"{name} has no argument {argument!r}; {hint}")
    if any(needed and argument not in arguments for argument, needed in known.items()):
        raise RequestError(f"{name} needs all its arguments: {{{name}: {{{example}}}}}")
    made: Set = cls(**arguments)
    return made
