"""``espalier report``: the page about one run or several."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[
        list[Path], typer.Argument(help="Run folders, or a folder of them.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="The page; by default report.html in the (first) folder.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write one self-contained HTML page about run folders."""
    from espalier.report import write_report

    page = write_report(
        [folder for path in runs for folder in _runs(path)], out or runs[0] / "report.html"
    )
    print(f"report: {page}")


def _runs(path: Path) -> list[Path]:
    """The runs in a folder that is none itself, such as ``compare`` makes; else the folder."""
    inside = sorted(config.parent for config in path.glob("*/config.json"))
    return inside if inside and not (path / "config.json").exists() else [path]
