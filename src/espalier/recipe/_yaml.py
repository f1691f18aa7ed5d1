"""Recipes as text: YAML within bounds (:mod:`espalier._ground.documents`), refused as a recipe is."""

from pathlib import Path
from typing import Any

from espalier._ground.documents import MAX_TEXT, parse_yaml
from espalier._ground.reading import read_text
from espalier.errors import RecipeError


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
        return parse_yaml(text)
    except ValueError as error:
        raise RecipeError(f"{where}: {error}") from error


def read(path: str | Path) -> Any:
    """The data in a YAML file of at most ``MAX_TEXT`` bytes.

    Raises:
        RecipeError: No such file, not a regular file, too large, not text, or not YAML.
    """
    try:
        text = read_text(path, MAX_TEXT)
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"{path}: not a text file (byte {error.start}); a recipe is YAML"
        ) from error
    return parse(text, str(path))
