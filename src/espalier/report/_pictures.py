"""What the model says to a few samples, dense beside pruned, as the run drew it."""

import base64
from dataclasses import dataclass
from pathlib import Path

from espalier._ground.reading import read_bytes
from espalier.errors import RunFolderError
from espalier.report._runs import Run

MAX_PICTURE = 1 << 22
_PNG = b"\x89PNG\r\n\x1a\n"
_MOST = 12


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One sample.

    Attributes:
        dense: Data URI of a PNG; None where the run drew none before pruning.
        pruned: Likewise; None of a run that has not ended.
    """

    dense: str | None
    pruned: str | None


def pictures(run: Run) -> list[Seen]:
    """The samples in their order; nothing of a task that draws none.

    Raises:
        RunFolderError: A picture that is none, or too large.
    """
    found = []
    for number in range(1, _MOST + 1):
        one = Seen(
            dense=_uri(run.path / f"dense-{number}.png"),
            pruned=_uri(run.path / f"pruned-{number}.png"),
        )
        if one.dense is None and one.pruned is None:
            break
        found.append(one)
    return found


def _uri(file: Path) -> str | None:
    if not file.is_file():
        return None
    try:
        content = read_bytes(file, MAX_PICTURE)
    except OSError as error:
        raise RunFolderError(f"{file}: cannot be read: {error.strerror}") from error
    if not content.startswith(_PNG):
        raise RunFolderError(f"{file}: not a PNG; delete it, or restore it from a copy")
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
