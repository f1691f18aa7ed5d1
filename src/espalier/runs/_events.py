"""Reading ``metrics.jsonl``: what a run said, line by line, each line checked."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from espalier._ground.documents import parse_json
from espalier._ground.events import Event
from espalier._ground.reading import opened
from espalier.errors import RunFolderError, shown

MAX_BYTES = 1 << 30
"""Bytes of the file."""

_MAX_LINE = 1 << 23

_Figure = float | None
_Figures = Mapping[str, _Figure] | None


class _Open(BaseModel):
    """What a kind of event may leave out, and what it may have besides, is not looked at."""

    model_config = ConfigDict(extra="ignore")


class _Phase(_Open):
    phase: str = ""
    epochs: _Figure = None
    steps: _Figure = None


class _Epoch(_Open):
    phase: str = ""
    epoch: _Figure = None
    step: _Figure = None
    loss: _Figure = None
    lr: _Figure = None
    seconds: _Figure = None
    metrics: _Figures = None
    hard_pruned: _Figures = None
    hard_pruned_bn: _Figures = None


class _Update(_Open):
    step: _Figure = None
    k: _Figure = None
    slack: _Figure = None
    rho: _Figure = None
    s: _Figure = None
    loss: _Figure = None
    condition_3: bool | None = None
    condition_8: bool | None = None
    layers: Mapping[str, Mapping[str, _Figure]] | None = None


_KINDS: dict[str, type[_Open]] = {"phase": _Phase, "epoch": _Epoch, "update": _Update}


def read_events(path: Path) -> list[Event]:
    """The events of a ``metrics.jsonl`` of at most ``MAX_BYTES``; none if there is no file.

    A last line without its line end, which a kill leaves, is left out.

    Raises:
        RunFolderError: It cannot be read, or a line is no event.
    """
    if not path.is_file():
        return []
    events = []
    try:
        with opened(path, MAX_BYTES) as file:
            number = 0
            while (line := file.readline(_MAX_LINE)).endswith(b"\n"):
                number += 1
                events.append(_event(line, f"{path}: line {number}"))
            if len(line) == _MAX_LINE:
                raise RunFolderError(
                    f"{path}: line {number + 1} is longer than {_MAX_LINE:,} bytes; remove that line"
                )
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be read: {error.strerror}") from error
    return events


def _event(line: bytes, where: str) -> Event:
    try:
        event = parse_json(line.decode(), finite=False)
        if not isinstance(event, dict) or not isinstance(event.get("event"), str):
            raise ValueError("no event")
        kind = _KINDS.get(event["event"])
        if kind is not None:
            kind.model_validate(event)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RunFolderError(
            f"{where} is not an event: {place[:80]}: {first['msg']}; remove that line"
        ) from None
    except (ValueError, RecursionError):
        raise RunFolderError(
            f"{where} is not an event: {shown(line[:60])}; remove that line"
        ) from None
    return event
