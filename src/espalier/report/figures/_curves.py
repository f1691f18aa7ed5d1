"""Accuracy and loss against epochs (the SLR paper's Figures 1 to 3)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from espalier.report._groups import Comparison, Group, mean
from espalier.report._numbers import finite
from espalier.report._runs import DENSE, Json, Run
from espalier.report.figures._base import (
    RC,
    RULE,
    SOFT,
    Drawing,
    Key,
    Style,
    canvas,
    decimate,
    svg,
    whole_numbers,
)

BANDED = 6  # with more series than this, bands would hide each other
_FLOOR = 0.05  # percentage points of error that count as none on the stretched axis
_TICKS = (0, 10, 30, 50, 70, 80, 90, 95, 98, 99, 99.5, 99.8)


@dataclass(frozen=True, kw_only=True)
class _Series:
    label: str
    style: Style
    epochs: Sequence[float]
    middle: Sequence[float]
    low: Sequence[float | None]
    high: Sequence[float | None]

    @property
    def key(self) -> Key:
        """Its entry in the legend."""
        return Key(label=self.label, style=self.style)


def curves(comparison: Comparison, styles: Sequence[Style]) -> list[Drawing]:
    """Every curve the runs have: accuracy if cut now, accuracy as it is, loss, retraining."""
    groups = comparison.groups
    dense = mean([run.final("dense") for group in groups for run in group.runs])
    level = None if dense is None else dense.mean
    drawings = []
    if len(groups) == 1:
        kinds = zip(_KINDS, _ONE_RUN_STYLES, strict=True)
        lines = [_series(groups[0], style, _goal(part), "prune", of) for (of, part), style in kinds]
        drawings.append(_accuracy("accuracy", "Accuracy while pruning", lines, level, _CUT))
    else:
        for label, part in _KINDS:
            lines = _each(groups, styles, _goal(part), "prune", dense=part == "metrics")
            drawings.append(_accuracy(f"accuracy-{part}", label, lines, level, _NOTES[part]))
    lines = _each(groups, styles, lambda run, epoch: epoch.get("loss"), "prune")
    drawings.append(_loss(lines))
    lines = _each(groups, styles, _goal("metrics"), "retrain")
    drawings.append(_accuracy("retrain", "Accuracy in masked retraining", lines, level, _RETRAINED))
    return [drawing for drawing in drawings if drawing is not None]


_KINDS = (
    ("If cut now", "hard_pruned"),
    ("If cut now, BatchNorm re-estimated", "hard_pruned_bn"),
    ("As it is, not cut", "metrics"),
)
_ONE_RUN_STYLES = (
    Style(colour="#0072b2"),
    Style(colour="#009e73", dash="6 2.4"),
    Style(colour="#8b938e"),
)
_CUT = "Test accuracy of the network as it trains, and of the same network cut to its budget then."
_RETRAINED = (
    "Test accuracy while the zeros are held and the remaining weights are trained; 0 is the cut."
)
_NOTES = {
    "hard_pruned": "Test accuracy if the network were cut to its budget at that epoch.",
    "hard_pruned_bn": "The same after BatchNorm statistics were re-estimated; no weight trained.",
    "metrics": "Test accuracy of the network as it trains, before any cut.",
}
_DASHED = " Dashed: the dense network before pruning."


def _goal(part: str) -> Callable[[Run, Json], object]:
    return lambda run, epoch: (epoch.get(part) or {}).get(run.goal)


def _each(
    groups: Sequence[Group],
    styles: Sequence[Style],
    value: Callable[[Run, Json], object],
    phase: str,
    dense: bool = True,
) -> list[_Series]:
    both = zip(groups, styles, strict=True)
    pairs = [(group, style) for group, style in both if dense or group.method != DENSE]
    return [_series(group, style, value, phase, group.label) for group, style in pairs]


def _series(
    group: Group, style: Style, value: Callable[[Run, Json], object], phase: str, label: str
) -> _Series:
    at: dict[float, list[object]] = {}
    for run in group.runs:
        told = run.phase(phase)
        for epoch in [*_start(run, phase), *told] if told else []:
            x = finite(epoch.get("epoch"))
            if x is not None and finite(value(run, epoch)) is not None:
                at.setdefault(x, []).append(value(run, epoch))
    epochs, means = [], []
    for x in sorted(at):
        centre = mean(at[x])
        if centre is not None:
            epochs.append(x)
            means.append(centre)
    return _Series(
        label=label,
        style=style,
        epochs=epochs,
        middle=[m.mean for m in means],
        low=[None if m.half_width is None else m.mean - m.half_width for m in means],
        high=[None if m.half_width is None else m.mean + m.half_width for m in means],
    )


def _start(run: Run, phase: str) -> list[Json]:
    """Epoch 0 as the result knows it: pruning begins with the dense network, retraining with the cut."""
    begun = "dense" if phase == "prune" else "hard_pruned"
    metrics = run.got("hard_pruned_bn") if phase == "retrain" else {}
    metrics = metrics or run.got(begun)
    return [{"epoch": 0, "metrics": metrics}] if metrics else []


def _accuracy(
    name: str, title: str, series: Sequence[_Series], dense: float | None, note: str
) -> Drawing | None:
    series = [line for line in series if line.epochs]
    if not series:
        return None
    with mpl.rc_context(RC):
        figure, ax = canvas(290)
        if dense is not None:
            ax.axhline(100 * dense, color=SOFT, linewidth=1.1, linestyle=(0, (4, 3)), zorder=1)
        for line in series:
            _draw(ax, line, 100.0, (0.0, 100.0), banded=len(series) <= BANDED)
        seen = [100 * v for v in _extent(series)]
        level = [] if dense is None else [100 * dense]
        stretched = _fit_percent(ax, [*seen, *level], best=max(seen))
        ax.set_title(f"{title}, %")
        ax.set_xlabel("epoch")
        whole_numbers(ax)
        note += "" if dense is None else _DASHED
        note += " The axis is stretched towards 100\u202f%." if stretched else ""
        return Drawing(svg=svg(figure, name, title), caption=note, keys=_keys(series))


def _loss(series: Sequence[_Series]) -> Drawing | None:
    series = [line for line in series if line.epochs]
    if not series:
        return None
    with mpl.rc_context(RC):
        figure, ax = canvas(290)
        for line in series:
            _draw(ax, line, 1.0, (0.0, np.inf), banded=len(series) <= BANDED)
        highest = max(_extent(series))
        ax.set_ylim(0, 1.08 * highest if highest > 0 else 1)
        ax.set_title("Training loss, mean of the epoch")
        ax.set_xlabel("epoch")
        whole_numbers(ax)
        note = "The loss of the data, without the pull towards the sets."
        drawing = svg(figure, "loss", "Training loss against epochs")
        return Drawing(svg=drawing, caption=note, keys=_keys(series))


def _extent(series: Sequence[_Series]) -> list[float]:
    """Lowest and highest value to show: the means, and of drawn bands what does not dwarf them."""
    means = [v for line in series for v in line.middle]
    span = max(means) - min(means)
    bands = [v for line in series for side in (line.low, line.high) for v in side if v is not None]
    bands *= len(series) <= BANDED
    inside = [v for v in bands if 0 <= v and min(means) - span / 2 <= v <= max(means) + span / 2]
    return [min(means + inside), max(means + inside)]


def _draw(ax: Axes, line: _Series, scale: float, limits: tuple[float, float], banded: bool) -> None:
    x, y = decimate(line.epochs, line.middle)
    few = len(x) <= 24
    marks: dict[str, Any] = {"marker": "o", "markersize": 3.6} if few else {}
    ax.plot(x, scale * y, **line.style.line, **marks, zorder=3)
    if banded and any(value is not None for value in line.low):
        x, low = decimate(line.epochs, line.low)
        _, high = decimate(line.epochs, line.high)
        if len(low) == len(high):
            low, high = np.clip(scale * low, *limits), np.clip(scale * high, *limits)
            colour = line.style.colour
            ax.fill_between(x, low, high, color=colour, alpha=0.14, linewidth=0, zorder=2)


def _keys(series: Sequence[_Series]) -> list[Key]:
    return [line.key for line in series] if len(series) > 1 else []


def _fit_percent(ax: Axes, seen: Sequence[float], best: float) -> bool:
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
