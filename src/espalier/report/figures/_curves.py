"""The goal's figure and the loss against epochs (the SLR paper's Figures 1 to 3)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from espalier.report._groups import Comparison, MethodRuns, mean
from espalier.report._numbers import finite
from espalier.report._runs import DENSE, Json, Run
from espalier.report.figures._axis import fit_percent, fit_plain, scale_of, unit_of
from espalier.report.figures._base import (
    RC,
    SOFT,
    Drawing,
    Key,
    Style,
    canvas,
    decimate,
    svg,
    whole_numbers,
)
from espalier.tasks import Goal

BANDED = 6  # with more series than this, bands would hide each other


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
    """Every curve the runs have: the goal's figure if cut now and as it is, loss, retraining."""
    groups, goal = comparison.groups, comparison.goal
    name = goal.name[:1].upper() + goal.name[1:]
    dense = mean([run.final("dense") for group in groups for run in group.runs])
    level = None if dense is None else dense.mean
    drawings = []
    if len(groups) == 1:
        kinds = zip(_KINDS, _ONE_RUN_STYLES, strict=True)
        lines = [_series(groups[0], style, _goal(part), "prune", of) for (of, part), style in kinds]
        drawings.append(_figure(goal, "accuracy", f"{name} while pruning", lines, level, _CUT))
    else:
        for label, part in _KINDS:
            lines = _each(groups, styles, _goal(part), "prune", dense=part == "metrics")
            drawings.append(_figure(goal, f"accuracy-{part}", label, lines, level, _NOTES[part]))
    lines = _each(groups, styles, lambda run, epoch: epoch.get("loss"), "prune")
    drawings.append(_loss(lines))
    lines = _each(groups, styles, _goal("metrics"), "retrain")
    title = f"{name} in masked retraining"
    drawings.append(_figure(goal, "retrain", title, lines, level, _RETRAINED))
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
_CUT = "Test {goal} of the network as it trains, and of the same network cut to its budget then."
_RETRAINED = (
    "Test {goal} while the zeros are held and the remaining weights are trained; 0 is the cut."
)
_NOTES = {
    "hard_pruned": "Test {goal} if the network were cut to its budget at that epoch.",
    "hard_pruned_bn": "The same after BatchNorm statistics were re-estimated; no weight trained.",
    "metrics": "Test {goal} of the network as it trains, before any cut.",
}
_DASHED = " Dashed: the dense network before pruning."


def _goal(part: str) -> Callable[[Run, Json], object]:
    return lambda run, epoch: (epoch.get(part) or {}).get(run.goal.name)


def _each(
    groups: Sequence[MethodRuns],
    styles: Sequence[Style],
    value: Callable[[Run, Json], object],
    phase: str,
    dense: bool = True,
) -> list[_Series]:
    both = zip(groups, styles, strict=True)
    pairs = [(group, style) for group, style in both if dense or group.method != DENSE]
    return [_series(group, style, value, phase, group.label) for group, style in pairs]


def _series(
    group: MethodRuns, style: Style, value: Callable[[Run, Json], object], phase: str, label: str
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


def _figure(
    goal: Goal, name: str, title: str, series: Sequence[_Series], dense: float | None, note: str
) -> Drawing | None:
    series = [line for line in series if line.epochs]
    if not series:
        return None
    fraction, (scale, limits) = goal.unit == "fraction", scale_of(goal)
    with mpl.rc_context(RC):
        figure, ax = canvas(290)
        if dense is not None:
            ax.axhline(scale * dense, color=SOFT, linewidth=1.1, linestyle=(0, (4, 3)), zorder=1)
        for line in series:
            _draw(ax, line, scale, limits, banded=len(series) <= BANDED)
        seen = [scale * v for v in _extent(series)]
        shown = seen if dense is None else [*seen, scale * dense]
        stretched = fit_percent(ax, shown, max(seen)) if fraction else fit_plain(ax, shown)
        ax.set_title(_titled(title, goal))
        ax.set_xlabel("epoch")
        whole_numbers(ax)
        note = note.replace("{goal}", goal.name) + ("" if dense is None else _DASHED)
        if stretched:
            how = "stretched towards 100\u202f%" if fraction else "logarithmic"
            note += f" The axis is {how}."
        return Drawing(svg=svg(figure, name, title), caption=note, keys=_keys(series))


def _titled(title: str, goal: Goal) -> str:
    """The title and the axis: a figure without a unit is named once, by either."""
    named = not goal.unit and title.lower().startswith(goal.name.lower())
    return title if named else f"{title}, {unit_of(goal)}"


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
    floor = min(0.0, *means)  # a band below it says nothing: no figure is negative there
    inside = [
        v for v in bands if floor <= v and min(means) - span / 2 <= v <= max(means) + span / 2
    ]
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
