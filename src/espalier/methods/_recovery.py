"""What came back: units that were off for a while and are on again."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """Counts over a run; a unit is a weight, a filter, or a channel.

    Attributes:
        units: All of them.
        opened: On now.
        ever_closed: Off at some time.
        ever_returned: On again after that, at some time.
        recovered: Off at some time, and on now.
        returns: Changes from off to on, all of them together.
    """

    units: int
    opened: int
    ever_closed: int
    ever_returned: int
    recovered: int
    returns: int

    def __str__(self) -> str:
        return (
            f"{self.ever_closed:,} of {self.units:,} units were off at some time, {self.ever_returned:,} of them "
            f"came back ({self.returns:,} times), and {self.recovered:,} of the {self.opened:,} that are on now "
            "had been off"
        )


class Returns:
    """Watches which units are on.

    >>> on = torch.tensor
    >>> watched = Returns(on([True, True, True]))
    >>> watched.see(on([True, False, False])); watched.see(on([True, True, False]))
    >>> found = watched.recovery(); found.ever_closed, found.recovered, found.returns
    (2, 1, 1)
    """

    def __init__(self, opened: Tensor) -> None:
        self._now = opened.clone()
        self._closed, self._returned = ~opened, torch.zeros_like(opened)
        self._count = torch.zeros((), dtype=torch.int64, device=opened.device)

    def see(self, opened: Tensor) -> None:
        """Which are on after another update; bool, of the shape at the start."""
        back = opened & ~self._now
        self._count += back.sum()
        self._returned |= back
        self._closed |= ~opened
        self._now = opened.clone()

    def recovery(self) -> Recovery:
        """The counts so far."""
        return Recovery(
            units=self._now.numel(),
            opened=int(self._now.sum()),
            ever_closed=int(self._closed.sum()),
            ever_returned=int(self._returned.sum()),
            recovered=int((self._closed & self._now).sum()),
            returns=int(self._count),
        )

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of all it keeps."""
        kept = {"now": self._now, "closed": self._closed, "returned": self._returned}
        return {name: value.clone() for name, value in {**kept, "count": self._count}.items()}

    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        """The inverse of ``state_dict``."""
        self._now, self._closed = saved["now"].clone(), saved["closed"].clone()
        self._returned, self._count = saved["returned"].clone(), saved["count"].clone()
