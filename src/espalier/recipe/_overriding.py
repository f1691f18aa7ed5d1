"""``--set a.b=c``: one setting of a recipe changed from outside."""

import copy
from typing import Any

from espalier.errors import RecipeError, shown
from espalier.recipe import _yaml


def override(content: Any, setting: str) -> Any:
    """The plain data of a recipe with one setting changed; ``content`` is left as it is.

    The value is read as YAML. Missing sections are made; a section given by its name alone
    (``solver: slr``) becomes a mapping when one of its settings is set.

    Args:
        content: The recipe as plain data.
        setting: ``path.to.key=value``.

    Raises:
        RecipeError: Not of that form, or the path leads through something that has no keys.

    Example:
        >>> override({"solver": "slr"}, "solver.rho=0.3")
        {'solver': {'method': 'slr', 'rho': 0.3}}
    """
    path, equals, text = setting.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise RecipeError(
            f"--set {setting}: not of the form path.to.key=value, such as training.lr=1e-3"
        )
    value = _yaml.parse(text, f"--set {path}")
    content = copy.deepcopy(content)
    if not isinstance(content, dict):
        return content  # the whole is no recipe, which validation says better
    at = content
    if keys[0] in _SYNONYMS and _SYNONYMS[keys[0]] in content:
        keys[0] = _SYNONYMS[keys[0]]  # the word that the recipe has for it
    if keys[0] == "plan" and len(keys) > 2 and keys[1] == "keep":
        keys = ["plan", "keep", ".".join(keys[2:])]  # parameter names have dots of their own
    for depth, key in enumerate(keys[:-1]):
        inner = at.get(key)
        if inner is None:
            inner = {}
        elif isinstance(inner, str):
            inner = {"name" if key in ("model", "data", "task") else "method": inner}
        if not isinstance(inner, dict):
            here = ".".join(keys[: depth + 1])
            raise RecipeError(
                f"--set {setting}: {here} is {shown(inner)}, which has no {keys[depth + 1]!r}"
            )
        at[key] = inner
        at = inner
        if len(at) == 1 and isinstance(next(iter(at.values())), dict) and key in _BY_NAME:
            ((name, settings),) = at.items()
            if keys[depth + 1] != name:  # {slr: {…}}: its settings are one level down
                at = settings
    at[keys[-1]] = value
    return content


_SYNONYMS = {"solver": "method", "method": "solver"}
_BY_NAME = {
    *("solver", "method", "metric", "continuation", "opening", "rho_schedule", "set", "optimiser"),
    "schedule",
}
