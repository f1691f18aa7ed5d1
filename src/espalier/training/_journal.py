"""What the training loop asks of the place where a run is kept: :class:`espalier.runs.RunFolder` is one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from espalier._ground.events import Event
from espalier._ground.tree import Tree


class Journal(Protocol):
    """Events go here line by line, checkpoints whole.

    Attributes:
        path: The folder.
        phase: Of training, the last that this process began or went on with.
        notes: What is to be found again after a resume; saved with every checkpoint.
        identity: Of the run; saved with every checkpoint.
        count: Events so far.
    """

    path: Path
    phase: str
    notes: dict[str, Any]
    identity: dict[str, Any]
    count: int

    @property
    def seconds(self) -> float:
        """Since the run began, summed over resumes."""
        ...

    def append(self, event: Event) -> Event:
        """Add one event, with its time."""
        ...

    def events(self) -> list[Event]:
        """Every event so far."""
        ...

    def rewind(self, count: int, seconds: float) -> None:
        """Go back to when there were ``count`` events and the clock said ``seconds``."""
        ...

    def write_weights(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Replace a file by plain safetensors."""
        ...

    def write_checkpoint(self, name: str, tree: Tree, former: str) -> None:
        """Replace a file by a tree; what it held before is kept as ``former``."""
        ...

    def __truediv__(self, name: str) -> Path: ...
