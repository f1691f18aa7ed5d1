"""hᵢ wᵢ², the worth of a weight, without under- or overflow."""

from math import frexp, isfinite

import torch
from torch import Tensor

from espalier.errors import NonFiniteError, RequestError, ShapeError


def energy(w: Tensor, metric: Tensor | None = None) -> tuple[Tensor, int]:
    """``(e, s)`` with hᵢ wᵢ² = eᵢ 2ˢ; e has the shape of ``w``.

    It is float64 for float64 weights and float32 for all others; ``w`` and ``h`` are first divided
    by powers of two near their peaks, which rounds nothing.
    """
    x, w_exponent = _scaled(w, _peak(w))
    e = x.square()
    if metric is None:
        return e, 2 * w_exponent
    h, h_exponent = _scaled(metric, _metric_peak(metric, w), e.dtype)
    return e.mul_(h), 2 * w_exponent + h_exponent


def magnitude(w: Tensor, metric: Tensor | None = None) -> Tensor:
    """√(h) |w| up to a constant: orders weights as ``energy`` does, and squares nothing."""
    peak = _peak(w)
    if metric is None:
        return w.detach().abs().to(_wide(w.dtype))
    x, _ = _scaled(w, peak)
    h, _ = _scaled(metric, _metric_peak(metric, w), x.dtype)
    return x.abs_().mul_(h.sqrt_())


def _scaled(x: Tensor, peak: float, dtype: torch.dtype | None = None) -> tuple[Tensor, int]:
    """``(x / 2ˢ, s)``, a new tensor with its largest absolute value near 1."""
    wide = _wide(x.dtype)
    bound = 1022 if wide is torch.float64 else 126  # where 2ˢ and 2⁻ˢ are both normal numbers
    exponent = max(-bound, min(frexp(peak)[1], bound))
    return (x.detach().to(wide) * 2.0**-exponent).to(dtype or wide), exponent


def _peak(w: Tensor) -> float:
    """Largest |w|; NaN and infinity are refused, since an order would be meaningless."""
    low, high = _range(w)
    if not (isfinite(low) and isfinite(high)):
        raise NonFiniteError("the weights hold NaN or infinity; nothing can be ranked")
    return max(-low, high)


def _metric_peak(metric: Tensor, w: Tensor) -> float:
    """Max h, after the checks a metric must pass."""
    if metric.shape != w.shape:
        raise ShapeError(f"metric of shape {tuple(metric.shape)} for weights {tuple(w.shape)}")
    low, high = _range(metric)
    if not (isfinite(low) and isfinite(high)):
        raise NonFiniteError("the metric holds NaN or infinity; nothing can be ranked")
    if low < 0:
        raise RequestError(f"the metric holds {low:g}; its entries must be >= 0")
    return high


def _range(x: Tensor) -> tuple[float, float]:
    if x.numel() == 0:
        return 0.0, 0.0
    low, high = x.detach().aminmax()
    return float(low), float(high)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype is torch.float64 else torch.float32
