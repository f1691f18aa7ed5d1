"""Paths as recipes write them."""

import os
from pathlib import Path

from espalier.errors import RecipeError, shown


def expanded(path: str) -> Path:
    """A path of a recipe with ``~`` and ``${VAR}`` written out.

    Raises:
        RecipeError: The variable is not set.
    """
    if "\0" in path:
        raise RecipeError(f"{shown(path)}: a path has no NUL in it")
    written = os.path.expandvars(os.path.expanduser(path))
    if "${" in written:
        name = written.split("${", 1)[1].split("}", 1)[0]
        raise RecipeError(
            f"{path}: the environment variable {name} is not set; export it, or use --set"
        )
    return Path(written)
