"""What is one number: along an axis of a parameter, or at all positions of a channel."""

import numpy as np
import torch
from torch import Tensor

from espalier.graph._value import Constants

SAME = 1e-6
"""The relative difference of two float32 numbers that are one up to rounding."""


def uniform_slices(data: Tensor | None, axis: int, size: int) -> Constants:
    """The number each slice along ``axis`` consists of; NaN where it is more than one."""
    if (
        data is None
        or data.numel() == 0
        or not (data.is_floating_point() or data.dtype == torch.int64)
    ):
        return np.full(size, np.nan)
    flat = data.detach().movedim(axis, 0).reshape(size, -1)
    low, high = (f(dim=1).double().cpu().numpy() for f in (flat.amin, flat.amax))
    return np.where(low == high, low, np.nan)


def everywhere(data: Tensor, dims: tuple[int, ...]) -> Constants:
    """The one number at all positions of every index over ``dims``; NaN where there are several.

    Two constants concatenated along positions are several. Numbers that rounding alone tells apart
    (vectorised code ends rows in other instructions) are one; zero is exact.
    """
    others = [d for d in range(data.dim()) if d not in dims]
    if data.numel() == 0 or not (data.is_floating_point() or data.dtype == torch.int64):
        return np.full([data.shape[d] for d in dims], np.nan)
    ends = (data.amin(others), data.amax(others)) if others else (data, data)
    low, high = (end.detach().double().cpu().numpy() for end in ends)
    finite = np.isfinite(low) & np.isfinite(high)
    with np.errstate(invalid="ignore"):
        same = (low == high) | ((low * high > 0) & (high - low <= SAME * np.abs(high)))
    return np.where(finite & same, low, np.nan)
