"""Reading a run folder, finished or not."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espalier._ground.events import Event
from espalier._ground.files import read_mapping
from espalier.errors import RunFolderError, WrongFolderError, shown
from espalier.runs._events import read_events
from espalier.runs._result import Result, read_result

FORMAT = "espalier-run"
VERSION = 3
"""3 since checkpoints say whose they are, 2 since runs are lists of stages; those that have ended are read as well."""


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
    if config.get("version") not in range(1, VERSION + 1):
        raise RunFolderError(
            f"{path}: a run of format version {shown(config.get('version'))}, and this Espalier reads "
            f"1 to {VERSION}; use the Espalier that wrote it"
        )
    if not isinstance(config.get("recipe", {}), Mapping):
        raise RunFolderError(
            f"{path / 'config.json'}: its recipe is {shown(config['recipe'])}, not a mapping; restore it from a copy"
        )
    has = {name: (path / name).is_file() for name in ("plan.yaml", "result.json")}
    return RunRecord(
        path=path,
        config=config,
        plan=read_mapping(path / "plan.yaml") if has["plan.yaml"] else None,
        events=tuple(read_events(path / "metrics.jsonl")),
        result=read_result(path / "result.json") if has["result.json"] else None,
    )
