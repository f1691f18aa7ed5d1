"""Sets by name, as recipes and plans write them."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from espalier.errors import RequestError, UnknownNameError, nearest
from espalier.sets._blocks import Blocks
from espalier.sets._channels import Channels
from espalier.sets._columns import Columns
from espalier.sets._filters import Filters
from espalier.sets._filters_and_columns import FiltersAndColumns
from espalier.sets._kernel_patterns import KernelPatterns
from espalier.sets._kernels import Kernels
from espalier.sets._n_of_m import NOfM
from espalier.sets._set import Set
from espalier.sets._unstructured import Unstructured

NAMES: dict[str, type[Set]] = {
    cls.name: cls
    for cls in (
        Unstructured,
        Filters,
        Channels,
        Columns,
        FiltersAndColumns,
        Kernels,
        KernelPatterns,
        NOfM,
        Blocks,
    )
}
"""Every set, by the name a recipe gives it."""


def parse(spec: str | Mapping[str, Mapping[str, Any]]) -> Set:
    """The set that a recipe or a plan names; the inverse of :meth:`Set.spec`.

    Args:
        spec: A name, or a mapping of one name to its arguments.

    Raises:
        UnknownNameError: No set, or no argument of the set, has the name; the nearest is suggested.
        RequestError: Arguments that are missing, are no integers, or that the set refuses.

    Example:
        >>> parse("filters")
        Filters()
        >>> parse({"n_of_m": {"n": 2, "m": 4}}).spec()
        {'n_of_m': {'n': 2, 'm': 4}}
    """
    if isinstance(spec, str):
        spec = {spec: {}}
    if not isinstance(spec, Mapping) or len(spec) != 1:
        raise RequestError(f"a set is a name or one name with its arguments, not {spec!r}")
    ((name, arguments),) = spec.items()
    if name not in NAMES:
        raise UnknownNameError(f"no set is called {name!r}; {nearest(str(name), NAMES)}")
    cls = NAMES[name]
    needed = [field.name for field in fields(cls)]
    example = ", ".join(f"{argument}: …" for argument in needed)
    if not isinstance(arguments, Mapping):
        raise RequestError(f"{name}: arguments are a mapping {{{example}}}, not {arguments!r}")
    for argument, value in arguments.items():
        if argument not in needed:
            hint = nearest(str(argument), needed) if needed else "it takes no arguments"
            raise UnknownNameError(f"{name} has no argument {argument!r}; {hint}")
        if not isinstance(value, int) or isinstance(value, bool):
            raise RequestError(f"{name}: {argument}={value!r}; give an integer")
    if len(arguments) < len(needed):
        raise RequestError(f"{name} needs all its arguments: {{{name}: {{{example}}}}}")
    return cls(**arguments)
