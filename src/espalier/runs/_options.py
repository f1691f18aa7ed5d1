"""How a run is kept, and who hears of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from espalier._ground.events import OnEvent


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run is kept, and who hears of it.

    Attributes:
        config: What ``config.json`` is to say.
        texts: Other files that say what was asked, such as ``recipe.yaml``, by name.
        settings: What decides the result besides task and stages, as plain data: a run goes on with the same.
        checkpoint_every: Steps between two checkpoints; None: only the clock counts.
        checkpoint_seconds: Seconds after which one is written in any case.
        on_event: Called with every event.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    checkpoint_every: int | None = None
    checkpoint_seconds: float = 30.0
    on_event: OnEvent | None = None
