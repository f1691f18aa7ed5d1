"""hᵢ wᵢ², the worth of a weight, without under- or overflow."""

from math import frexp, isfinite

import torch
from torch import Tensor

from espalier.errors import NonFiniteError, RequestError, ShapeError

Peaks = tuple[float, float]
"""The largest |w| and h of a whole tensor, where only a part of it is at hand: one scale for all parts."""


def energy(
    w: Tensor, metric: Tensor | None = None, peaks: Peaks | None = None
) -> tuple[Tensor, int]:
    """``(e, s)`` with hᵢ wᵢ² = eᵢ 2ˢ; e has the shape of ``w``.

    It is float64 for float64 weights and float32 for all others; ``w`` and ``h`` are first divided
    by powers of two near their peaks, which rounds nothing.
    """
    w_peak, h_peak = peaks or _peaks(w, metric)
    x, w_exponent = _scaled(w, w_peak)
    e = x.square()
    if metric is None:
        return e, 2 * w_exponent
    h, h_exponent = _scaled(metric, h_peak, e.dtype)
    return e.mul_(h), 2 * w_exponent + h_exponent


def magnitude(w: Tensor, metric: Tensor | None = None, peaks: Peaks | None = None) -> Tensor:
    """√(h) |w| up to a constant: orders weights as ``energy`` does, and squares nothing."""
    w_peak, h_peak = peaks or _peaks(w, metric)
    if metric is None:
        return w.detach().abs().to(_wide(w.dtype))
    x, _ = _scaled(w, w_peak)
    h, _ = _scaled(metric, h_peak, x.dtype)
    return x.abs_().mul_(h.sqrt_())


def extremes(w: Tensor, metric: Tensor | None = None) -> Tensor:
    """(max w, max −w, max h, max −h) as float64; NaN counts as infinity. :func:`checked` reads them.

    Raises:
        ShapeError: The metric has another shape.
    """
    if metric is not None and metric.shape != w.shape:
        raise ShapeError(f"metric of shape {tuple(metric.shape)} for weights {tuple(w.shape)}")
    found: list[Tensor] = []
    for x in (w, metric):
        if x is None or x.numel() == 0:
            found += w.new_zeros(2, dtype=torch.float64)
        else:
            low, high = x.detach().aminmax()
            found += [high.double(), -low.double()]
    return torch.stack(found).nan_to_num(torch.inf, torch.inf, -torch.inf)


def checked(extremes: Tensor) -> Peaks:
    """The peaks: of one tensor, or the largest of the extremes of its parts.

    Raises:
        NonFiniteError: NaN or infinity, since an order would be meaningless.
        RequestError: A negative entry in the metric.
    """
    high, low, h_high, h_low = extremes.tolist()
    if not (isfinite(high) and isfinite(low)):
        raise NonFiniteError("the weights hold NaN or infinity; nothing can be ranked")
    if not (isfinite(h_high) and isfinite(h_low)):
        raise NonFiniteError("the metric holds NaN or infinity; nothing can be ranked")
    if h_low > 0:
        raise RequestError(f"the metric holds {-h_low:g}; its entries must be >= 0")
    return max(high, low), h_high


def _scaled(x: Tensor, peak: float, dtype: torch.dtype | None = None) -> tuple[Tensor, int]:
    """``(x / 2ˢ, s)``, a new tensor with its largest absolute value near 1."""
    wide = _wide(x.dtype)
    bound = 1022 if wide is torch.float64 else 126  # where 2ˢ and 2⁻ˢ are both normal numbers
    exponent = max(-bound, min(frexp(peak)[1], bound))
    return (x.detach().to(wide) * 2.0**-exponent).to(dtype or wide), exponent


def _peaks(w: Tensor, metric: Tensor | None) -> Peaks:
    return checked(extremes(w, metric))


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype is torch.float64 else torch.float32
