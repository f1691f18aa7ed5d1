"""The axis of a goal's figure: per cent, stretched towards 100 where it matters, or its own unit."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from espalier.report.figures._base import RULE, log_axis
from espalier.tasks import Goal

_FLOOR = 0.05  # percentage points of error that count as none on the stretched axis
_TICKS = (0, 10, 30, 50, 70, 80, 90, 95, 98, 99, 99.5, 99.8)
_WIDE = 100.0  # from this ratio on, the small values need a logarithmic axis to be told apart


def scale_of(goal: Goal) -> tuple[float, tuple[float, float]]:
    """What figures are multiplied by on the axis, and the values that are possible there."""
    return (100.0, (0.0, 100.0)) if goal.unit == "fraction" else (1.0, (-np.inf, np.inf))


def unit_of(goal: Goal) -> str:
    """What a title says of the axis: the unit, or the figure's name where it has none.

    >>> unit_of(Goal()), unit_of(Goal(name="perplexity", unit=""))
    ('%', 'perplexity')
    """
    return "%" if goal.unit == "fraction" else goal.unit or goal.name


def fit_plain(ax: Axes, seen: Sequence[float]) -> bool:
    """Fits an axis in the figure's own unit; logarithmic, and true, where it spans decades."""
    low, high = min(seen), max(seen)
    if low > 0 and high >= _WIDE * low:
        log_axis(ax, (low, high))
        ax.set_ylim(low / 1.3, 1.3 * high)
        return True
    room = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    ax.set_ylim(max(0.0, low - room) if low >= 0 else low - room, high + room)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    return False


def fit_percent(ax: Axes, seen: Sequence[float], best: float) -> bool:
    """Fits the percent axis; stretches it towards 100 where that is where the difference lies."""
    low, high = min(seen), max(seen)
    if best < 95 or high - low < 6:
        room = max(0.08 * (high - low), 0.15)
        ax.set_ylim(max(0.0, low - room), min(100.0 + 0.3 * room, high + room))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        return False

    def stretch(a: np.ndarray) -> np.ndarray:
        return -np.log10(np.maximum(100.0 + _FLOOR - np.asarray(a, dtype=float), _FLOOR / 2))

    def back(b: np.ndarray) -> np.ndarray:
        return np.asarray(100.0 + _FLOOR - 10.0 ** -np.asarray(b, dtype=float))

    ax.set_yscale("function", functions=(stretch, back))
    bottom, top = stretch(np.array([low, high]))
    room = 0.05 * (top - bottom)
    ends = back(np.array([bottom - room, top + room]))
    ax.set_ylim(max(1.0, ends[0]), min(100.0, ends[1]))
    ax.yaxis.set_major_locator(FixedLocator(_spaced(stretch, *ax.get_ylim())))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.spines["left"].set_color(RULE)
    return True


def _spaced(stretch: Callable[[np.ndarray], np.ndarray], bottom: float, top: float) -> list[float]:
    """Round percentages far enough apart on the stretched axis, those near 100 first."""
    ticks = [tick for tick in (*_TICKS, 99.9) if bottom <= tick <= top]
    gap = 0.06 * float(np.ptp(stretch(np.array([bottom, top]))))
    kept: list[float] = []
    for tick in reversed(ticks):
        if all(abs(float(np.diff(stretch(np.array([tick, k])))[0])) >= gap for k in kept):
            kept.append(tick)
    return sorted(kept)
