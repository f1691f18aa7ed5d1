"""The command line in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "espalier.cli", *(str(argument) for argument in arguments)]


def process(arguments: Sequence[object], cwd: Path) -> "subprocess.CompletedProcess[str]":
    """The command line in a process of its own."""
    return subprocess.run(
        command(*arguments), cwd=cwd, capture_output=True, text=True, timeout=800, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
