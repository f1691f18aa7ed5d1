"""Which training samples are held out: drawn once and for all, so the same in every run of the same data."""

import torch
from torch import Tensor

from espalier.errors import RequestError
from espalier.tasks._seeding import generator_for


def count_of(part: float, length: int) -> int:
    """How many of ``length`` samples a fraction in (0, 1) or a count stands for; at least one on either side.

    >>> count_of(0.1, 60_000), count_of(5_000, 60_000), count_of(0.01, 10)
    (6000, 5000, 1)
    """
    fraction = isinstance(part, float) and 0 < part < 1
    count = max(1, round(part * length)) if fraction else part
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count < length:
        raise RequestError(
            f"hold out {part!r} of {length} training samples; give a fraction in (0, 1), or a count from 1 "
            f"to {length - 1}"
        )
    return count


def shuffled(length: int) -> Tensor:
    """The indices in an order that depends on their number alone, int64 (length,)."""
    return torch.randperm(length, generator=generator_for(0))
