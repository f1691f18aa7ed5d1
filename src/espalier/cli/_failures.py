"""What nobody expected to fail, as one message: the machine's refusals, and errors in the user's own code."""

import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

_OURS = Path(__file__).parents[1]
_LIBRARIES = {
    Path(place).resolve()
    for name, place in sysconfig.get_paths().items()
    if name in ("stdlib", "platstdlib", "purelib", "platlib")
}


def sentence(error: BaseException) -> str | None:
    """One sentence for what the system, memory or the stack refused; None for anything else.

    >>> sentence(FileNotFoundError(2, "No such file or directory", "net.yaml"))
    'net.yaml: No such file or directory'
    """
    if isinstance(error, OSError):
        named = [str(name) for name in (error.filename, error.filename2) if name is not None]
        return ": ".join([*named[:1], error.strerror or str(error) or type(error).__name__])
    if isinstance(error, MemoryError) or _out_of_memory(error):
        return "there is not enough memory for this; take smaller batches, images or models"
    if isinstance(error, RecursionError):
        return "something is nested too deep to be followed"
    # What a path cannot be is a ValueError of Python's own, and not an OSError.
    if isinstance(error, UnicodeError) or (
        isinstance(error, ValueError) and "null byte" in str(error)
    ):
        return f"this can be no name of a file: {error!s:.200}"
    return None


def own_lines(error: BaseException) -> str:
    """The lines of the user's own code that led to an error, as a traceback has them; empty if none did."""
    for each in _chain(error):
        frames = [f for f in traceback.extract_tb(each.__traceback__) if _is_own(f.filename)]
        if frames:
            return "".join(traceback.format_list(frames)).rstrip("\n")
    return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, then what it was raised from."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def _is_own(filename: str) -> bool:
    """Whether a file is neither ours nor a library's; compiled libraries name files that are not there."""
    path = Path(filename).resolve()
    places = (_OURS, *_LIBRARIES)
    return path.is_file() and not any(path.is_relative_to(place) for place in places)


def _out_of_memory(error: BaseException) -> bool:
    # PyTorch says it by a RuntimeError: on a GPU of a class of its own, on the CPU in words alone.
    return isinstance(error, RuntimeError) and (
        type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error)
    )
