"""How answers and failures are written: answers on standard output, all else on standard error."""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console


class StoppedError(Exception):
    """Ctrl-C in the middle of something that can be taken up again; says how."""


@contextmanager
def resumable(command: str) -> Iterator[None]:
    """Turn Ctrl-C inside the block into a word on how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise StoppedError(f"resume with\n  {command}") from None


def fail(message: str, status: int, word: str = "error") -> int:
    """One message on standard error; returns ``status``."""
    print(f"{word}: {message}", file=sys.stderr)
    return status


def advise(texts: Iterable[str]) -> None:
    """What will probably disappoint, before it is begun, on standard error."""
    for text in texts:
        print(f"note: {text}", file=sys.stderr)


def console() -> "Console":
    """Standard output; tables keep a readable width where it is no terminal."""
    from rich.console import Console

    wide = None if sys.stdout.isatty() else 120
    return Console(width=wide, highlight=False)


def print_json(answer: Any) -> None:
    """An answer for a program: JSON, and nothing else, on standard output."""
    print(json.dumps(answer, indent=2, allow_nan=False))


def percent(fraction: float) -> str:
    """A fraction as a percentage.

    >>> percent(0.98125)
    '98.12 %'
    """
    return f"{100 * fraction:.2f} %"


RecipeFile = Annotated[Path, typer.Argument(help="The recipe, a YAML file.", show_default=False)]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="A.B=C", help="Change one setting of the recipe; may be repeated."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON, for a program.")]
