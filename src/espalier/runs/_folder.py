"""The run folder: everything about one run, readable at any moment of it.

One process writes (a lock says which, and it is taken before anything is written), any number may read.
Files are replaced all at once, events are appended a line at a time, so a kill at any moment leaves
a folder that can be read and resumed.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from torch import Tensor

from espalier._ground.documents import dump_yaml
from espalier._ground.events import Event
from espalier._ground.files import (
    TEMPORARY,
    plain,
    read_mapping,
    write_bytes,
    write_json,
    write_tensors,
)
from espalier._ground.locking import FolderLock
from espalier._ground.tree import Tree, save_tree
from espalier.errors import RunFolderError, WrongFolderError
from espalier.runs._events import read_events
from espalier.runs._record import FORMAT, VERSION, read_run


class RunFolder:
    """A run folder, created or opened for writing, and locked until it is closed.

    A context manager. The lock is the operating system's: it goes with its process, however that
    ends, so a folder is never locked by a run that was killed.

    Args:
        path: The folder; made if it is not there.
        resume: Whether to go on with the run the folder may hold. A folder without one is begun.

    Attributes:
        path: The folder.
        count: Events in ``metrics.jsonl``.
        phase: Of training, the last that this process began or went on with.
        notes: What is to be found again after a resume; saved with every checkpoint.
        identity: Of the run; saved with every checkpoint, which belongs to this run alone.

    Raises:
        WrongFolderError: Holds a run and ``resume`` is false, or holds something else.
        RunFolderError: In use by another process; cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place, RunFolder(f"{place}/run") as run:
        ...     run.write_config({"recipe": {"model": "lenet5"}})
        ...     _ = run.append({"event": "resumed", "step": 3})
        ...     [event["step"] for event in run.events()]
        [3]
    """

    def __init__(self, path: Path | str, resume: bool = False) -> None:
        self.path = Path(path)
        self._metrics: IO[str] | None = None
        self.notes: dict[str, Any] = {}
        self.identity: dict[str, Any] = {}
        self.phase = ""
        self._before, self._began = 0.0, time.monotonic()
        _look(self.path, resume)  # a folder of other things is left as it is, without a lock
        self._lock = FolderLock(self.path)
        try:
            _look(self.path, resume)  # another process may have begun a run since
            self.count = len(self.events())
        except BaseException:
            self._lock.close()
            raise

    def close(self) -> None:
        """Give the lock back. Safe to call twice."""
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    # -- whole files -------------------------------------------------------------------------

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write ``config.json``, which makes the folder a run; the format is added."""
        self.write_json("config.json", {"format": FORMAT, "version": VERSION, **config})

    def identify(self, identity: Mapping[str, Any], **changed: Any) -> None:
        """Keep in ``config.json`` and from now on in every checkpoint whose they are.

        Args:
            identity: Plain data.
            **changed: What else ``config.json`` is to say from now on.
        """
        config = read_mapping(self / "config.json")
        self.write_json("config.json", {**config, **changed, "identity": identity})
        self.identity = dict(identity)

    def write_json(self, name: str, content: Any) -> None:
        """Replace a file by JSON; NaN and infinities become null, for JSON has none."""
        write_json(self.to_write(name), content)

    def write_yaml(self, name: str, content: Any) -> None:
        """Replace a file by YAML, keys in the order given."""
        self.write_text(name, dump_yaml(content))

    def write_text(self, name: str, content: str) -> None:
        """Replace a file by a text."""
        write_bytes(self.to_write(name), content.encode())

    def write_weights(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Replace a file by plain safetensors, as ``models.load_weights`` reads it."""
        write_tensors(self.to_write(name), tensors)

    def write_checkpoint(self, name: str, tree: Tree, former: str) -> None:
        """Replace a file by a tree of tensors and scalars; what it held before is kept as ``former``."""
        save_tree(self.to_write(name), tree, keep=self / former)

    def to_write(self, name: str) -> Path:
        """The path of a file that is about to be written.

        Raises:
            RunFolderError: The folder is no longer the one that this process took.
        """
        self._lock.check()
        return self / name

    # -- events ------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Since the run began, summed over resumes; what a kill lost is not counted."""
        return self._before + time.monotonic() - self._began

    def append(self, event: Event) -> Event:
        """Add one line to ``metrics.jsonl``, with its ``time`` in seconds; returns it so.

        Raises:
            RunFolderError: The disk is full.
        """
        event = {**event, "time": round(self.seconds, 3)}
        try:
            if self._metrics is None:
                path = self.to_write("metrics.jsonl")
                _end_line(path)
                self._metrics = open(path, "a", encoding="utf-8")
            self._metrics.write(json.dumps(plain(event), allow_nan=False) + "\n")
            self._metrics.flush()
            self.count += 1
        except OSError as error:
            raise RunFolderError(
                f"{self / 'metrics.jsonl'}: cannot be written: {error.strerror}; "
                f"free some space and resume, what was saved before is kept"
            ) from error
        return event

    def events(self) -> list[Event]:
        """Every event so far; a last line that a kill cut off is left out."""
        return read_events(self / "metrics.jsonl")

    def rewind(self, count: int, seconds: float) -> None:
        """Go back to when there were ``count`` events and the clock said ``seconds``."""
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None
        if (self / "metrics.jsonl").is_file():
            lines = (self / "metrics.jsonl").read_bytes().split(b"\n")[:-1]
            kept = b"".join(line + b"\n" for line in lines[:count])
            write_bytes(self.to_write("metrics.jsonl"), kept)
            self.count = min(count, len(lines))
        self._before, self._began = seconds, time.monotonic()


def _look(path: Path, resume: bool) -> None:
    """Make the folder, and refuse one that is not for this run."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        names = {file.name for file in path.iterdir() if not file.name.startswith(TEMPORARY)}
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be made a run folder: {error.strerror}") from error
    if "config.json" in names and not resume:
        raise WrongFolderError(f"{path}: already holds a run; resume it, or give another folder")
    if names - {"lock", "recipe.yaml"} and "config.json" not in names:
        some = ", ".join(sorted(names)[:3])
        raise WrongFolderError(f"{path}: holds other files ({some}); give a new or an empty folder")
    if "config.json" in names:
        read_run(path)


def _end_line(path: Path) -> None:
    """Cut off a last line that a kill left without its end, lest the next one be glued to it."""
    if path.is_file():
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):
            write_bytes(path, content[: content.rfind(b"\n") + 1])
