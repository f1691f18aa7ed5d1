"""Every error Espalier raises on purpose, on one screen.

A message says what was got, what is allowed and what to do. The command line prints it without a
traceback and exits with the class's ``exit_status``.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from reprlib import Repr


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


class LostRankError(RunError):
    """Of several processes that run together, another died or did not answer in time."""


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


class AdviceWarning(UserWarning):
    """It can be done as asked, but will probably not do what was wanted; the message says what would."""


_LONGEST = 200  # characters of a name that are compared: it takes quadratic time


def nearest(name: str, allowed: Iterable[str]) -> str:
    """The hint that ends an :class:`UnknownNameError`: the nearest names, then what is allowed.

    >>> nearest("slrr", ["slr", "admm"])
    "did you mean 'slr'? Allowed: admm, slr"
    """
    names = sorted(allowed)
    close = get_close_matches(name[:_LONGEST], names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}Allowed: {', '.join(names)}"


class _Short(Repr):
    """A repr that looks at a bounded part of a value."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 60, 60

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if x.bit_length() < 128 else f"<an integer of {x.bit_length():,} bits>"

    def repr_bytes(self, x: bytes, level: int) -> str:
        return repr(x[: self.maxstring]) + ("…" if len(x) > self.maxstring else "")


_SHORT = _Short()


def shown(value: object, most: int = 80) -> str:
    """What a message quotes of a value that may be anybody's: its repr, cut short.

    >>> shown("conv1.weight"), shown(10**5000), shown(list(range(10**6)))
    ("'conv1.weight'", '<an integer of 16,610 bits>', '[0, 1, 2, 3, 4, 5, ...]')
    """
    text = _SHORT.repr(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"
