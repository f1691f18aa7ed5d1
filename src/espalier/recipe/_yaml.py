"""YAML as recipes are written: the safe loader, with three traps of YAML 1.1 taken out.

``1e-3`` is a number (YAML 1.1 wants ``1.0e-3``), ``yes``, ``no``, ``on`` and ``off`` are words, and a
key given twice is an error instead of the last one winning.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from espalier.errors import RecipeError


class _Loader(yaml.SafeLoader):
    """Nothing but data."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":float", ":bool"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.inf|\.nan)$"
    ),
    list("-+0123456789."),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool",
    re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"),
    list("tTfF"),
)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key_node, _ in node.value:
        key = str(key_node.value)
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} is given twice", key_node.start_mark
            )
        seen.add(key)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def parse(text: str, where: str) -> Any:
    """The data a YAML text holds.

    Args:
        text: The text.
        where: What to call it in a message: a file name, or ``--set training.lr``.

    Raises:
        RecipeError: Not YAML; the message says the line and column.

    Example:
        >>> parse("{lr: 1e-3, mode: off}", "example")
        {'lr': 0.001, 'mode': 'off'}
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        at = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise RecipeError(f"{where}: {at}not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(f"{where}: not valid YAML: {error}") from error


def read(path: str | Path) -> Any:
    """The data in a YAML file.

    Raises:
        RecipeError: No such file, not text, or not YAML.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"{path}: not a text file (byte {error.start}); a recipe is YAML"
        ) from error
    return parse(text, str(path))
