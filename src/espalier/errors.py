"""Every error Espalier raises on purpose, on one screen.

A message says what was got, what is allowed and what to do. The command line prints it without a
traceback and exits with the class's ``exit_status``.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class EspalierError(Exception):
    """The root: whatever Espalier refuses or could not finish."""

    exit_status = 1


class RequestError(EspalierError, ValueError):
    """What was asked cannot be done as asked; nothing was started."""

    exit_status = 2


class BudgetError(RequestError):
    """A keep count or a target that the tensors cannot meet."""


class ShapeError(RequestError):
    """A set that does not fit a tensor."""


class UnknownNameError(RequestError):
    """A parameter, method, set, model, key … that does not exist."""


class RecipeError(RequestError):
    """A recipe that does not say what to do."""


class RunError(EspalierError, RuntimeError):
    """It was begun and could not go on; what was saved before is kept."""


class NonFiniteError(RunError):
    """NaN or infinity in weights or loss."""


class DataError(RunError):
    """A data file that is missing, cut short or corrupt."""


class CheckpointError(RunError):
    """A checkpoint or artefact that is truncated, foreign or of another version."""


class RunFolderError(RunError):
    """A run folder that is in use, damaged or cannot be written."""


class WrongFolderError(RunFolderError):
    """Not a run where one was asked for, or not empty where a new one was."""

    exit_status = 2


def nearest(name: str, allowed: Iterable[str]) -> str:
    """The hint that ends an :class:`UnknownNameError`: the nearest names, then what is allowed.

    >>> nearest("slrr", ["slr", "admm"])
    "did you mean 'slr'? Allowed: admm, slr"
    """
    names = sorted(allowed)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}Allowed: {', '.join(names)}"
