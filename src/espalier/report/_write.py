"""Writes the report: reads the runs, draws, fills the template, replaces the file atomically."""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from espalier._ground.files import write_bytes
from espalier.errors import RequestError, RunError
from espalier.report._runs import read_run


def write_report(runs: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> Path:
    """Writes one self-contained HTML page about one run or several.

    The page needs no network and no script. The same folders give the same bytes. Runs that differ
    in their seed alone are drawn as one mean with a Student-t 95 % interval.

    Args:
        runs: run folders, in the order in which they are to appear.
        out: the HTML file; its folder is made when missing.

    Returns:
        The path of the page.

    Raises:
        RequestError: no runs, or the ``report`` extra is not installed.
        WrongFolderError: a folder that is not a run.
        RunFolderError: a file of a run that is damaged.
        RunError: the page cannot be written.
    """
    missing = [name for name in ("matplotlib", "jinja2") if find_spec(name) is None]
    if missing:
        raise RequestError(
            f"a report needs {' and '.join(missing)}; run: pip install 'espalier[report]'"
        )
    if not runs:
        raise RequestError("no run given; give one run folder or several")
    from espalier.report._page import render  # only now: it imports the extra

    page = render([read_run(run) for run in runs])
    path = Path(out)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}: {path.parent}") from error
    write_bytes(path, page.encode())
    return path
