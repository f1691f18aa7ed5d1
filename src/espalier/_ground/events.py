"""What a run says while it goes, and who listens."""

from collections.abc import Callable
from typing import Any

Event = dict[str, Any]
"""One line of ``metrics.jsonl``; ``event`` names its kind."""

OnEvent = Callable[[Event], None]
"""Who wants to hear of events as they happen."""
