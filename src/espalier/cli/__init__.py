"""The command line: it parses, calls and prints; everything it does can be called from Python too."""

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: As on the command line, without the program's name; by default those of the process.

    Returns:
        The exit status: 0 done, 2 the request is wrong, 1 it failed while running, 130 stopped.
    """
    try:
        from espalier.cli._main import run
    except KeyboardInterrupt:  # so early that there is nothing to say
        return 130
    return run(arguments)


__all__ = ["main"]
