"""Reading a run folder, finished or not."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espalier._ground.events import Event
from espalier._ground.files import read_mapping
from espalier.errors import RunFolderError, WrongFolderError
from espalier.runs._result import Result, read_result

FORMAT = "espalier-run"
VERSION = 2
"""2 since runs are lists of stages; finished runs of version 1 are read as well."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What a run folder says, for reports and comparisons.

    Attributes:
        path: The folder.
        config: ``config.json``.
        plan: ``plan.yaml``, as plain data; None while there is none.
        events: ``metrics.jsonl``.
        result: ``result.json``; None until the run has ended.
    """

    path: Path
    config: Mapping[str, Any]
    plan: Mapping[str, Any] | None
    events: tuple[Event, ...]
    result: Result | None


def read_run(path: Path | str) -> RunRecord:
    """Read a run folder, finished or not, without locking it.

    Raises:
        WrongFolderError: No such folder, or not a run.
        RunFolderError: A run of another version; a file in it is damaged.
    """
    path = Path(path)
    if not path.is_dir():
        raise WrongFolderError(f"{path}: there is no such folder; give the folder of a run")
    if not (path / "config.json").is_file():
        raise WrongFolderError(f"{path}: not a run, for it has no config.json; give a run's folder")
    config = read_mapping(path / "config.json")
    if config.get("format") != FORMAT:
        raise WrongFolderError(f"{path}: its config.json is not that of a run; give a run's folder")
    if config.get("version") not in (1, VERSION):
        raise RunFolderError(
            f"{path}: a run of format version {config.get('version')!r}, and this Espalier reads "
            f"1 and {VERSION}; use the Espalier that wrote it"
        )
    has = {name: (path / name).is_file() for name in ("plan.yaml", "result.json")}
    return RunRecord(
        path=path,
        config=config,
        plan=read_mapping(path / "plan.yaml") if has["plan.yaml"] else None,
        events=tuple(read_events(path / "metrics.jsonl")),
        result=read_result(path / "result.json") if has["result.json"] else None,
    )


def read_events(path: Path) -> list[Event]:
    """The events of a ``metrics.jsonl``; none if there is no file.

    Raises:
        RunFolderError: A line that is no event, other than a last one without its line end.
    """
    if not path.is_file():
        return []
    events = []
    lines = path.read_bytes().split(b"\n")[:-1]
    for number, line in enumerate(lines, start=1):
        try:
            event = json.loads(line)
            event["event"]
        except (ValueError, KeyError, TypeError):
            raise RunFolderError(
                f"{path}: line {number} is not an event: {line[:60]!r}; remove that line"
            ) from None
        events.append(event)
    return events
