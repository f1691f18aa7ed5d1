"""The command line: it parses, calls and prints; everything it does can be called from Python too."""

from espalier.cli._main import main

__all__ = ["main"]
