"""The mean over seeds and how far it can be trusted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179)


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean with its Student-t 95 % interval.

    Attributes:
        mean: Over the seeds.
        half_width: The interval is mean ± this; None for a single seed.
        values: One a seed, in the order of the seeds.
    """

    mean: float
    half_width: float | None
    values: tuple[float, ...]


def interval(values: Sequence[float]) -> Interval | None:
    r"""Mean and interval, None of no values.

    .. math:: \bar x \pm t_{0.975,\,n-1}\, s/\sqrt n

    Example:
        >>> interval([0.98, 0.99])
        Interval(mean=0.985, half_width=0.06353, values=(0.98, 0.99))
    """
    if not values:
        return None
    n, mean = len(values), math.fsum(values) / len(values)
    if n == 1:
        return Interval(mean=mean, half_width=None, values=tuple(values))
    spread = math.sqrt(math.fsum((x - mean) ** 2 for x in values) / (n - 1))
    half = round(_quantile(n - 1) * spread / math.sqrt(n), 12)
    return Interval(mean=mean, half_width=half, values=tuple(values))


def _quantile(freedom: int) -> float:
    """The 97.5 % quantile of Student's t: a table, then Cornish and Fisher's expansion."""
    if freedom <= len(_T_95):
        return _T_95[freedom - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
