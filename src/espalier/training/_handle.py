"""What the training loop asks of what it trains towards: a ``Pruning``, a ``Freezing``, or your own."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from torch import Tensor

from espalier._ground.types import Weights
from espalier.methods._certificate import Update


class Target(Protocol):
    """Where the weights shall go."""

    def contains(self, weights: Weights) -> bool:
        """Whether a cut would change nothing."""
        ...


class Handle(Protocol):
    """Pulls, holds and cuts."""

    @property
    def plan(self) -> Target:
        """Where the weights shall go."""
        ...

    @property
    def updates(self) -> list[Update]:
        """What has been done so far, in order."""
        ...

    def add_gradients_(self) -> None:
        """After ``backward``."""
        ...

    def step(self, loss: Tensor) -> None:
        """After ``optimizer.step``."""
        ...

    def hard_pruned(self) -> AbstractContextManager[None]:
        """The model as if cut now; the weights come back on exit."""
        ...

    def hard_prune_(self) -> None:
        """Cut for good."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything, as nested dicts of tensors and JSON scalars."""
        ...

    def load_state_dict(self, saved: Mapping[str, Any], /) -> None:
        """The inverse of ``state_dict``."""
        ...
