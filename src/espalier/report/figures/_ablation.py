"""The goal's final figure against the one setting in which the runs differ (Figures 4 and 6)."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from espalier.report._groups import Comparison, MethodRuns, setting_name
from espalier.report.figures._axis import scale_of, unit_of
from espalier.report.figures._base import RC, Drawing, Key, Style, canvas, distinct, svg
from espalier.tasks import Goal


def ablation(comparison: Comparison) -> Drawing | None:
    """The drawing, or ``None`` where the groups do not differ in exactly one setting."""
    setting, goal = comparison.setting, comparison.goal
    if setting is None:
        return None
    values = list(dict.fromkeys(g.value for g in comparison.groups if g.value is not None))
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if numeric:
        values = sorted(values)
    if len(values) < 2:
        return None
    spread_out = numeric and values[0] > 0 and values[-1] / values[0] >= 10
    places = [float(v) if numeric else float(i) for i, v in enumerate(values)]
    keys, drawn = [], False
    with mpl.rc_context(RC):
        figure, ax = canvas(290)
        if spread_out:
            ax.set_xscale("log")
        for index, method in enumerate(comparison.methods):
            groups = [g for g in comparison.groups if g.method == method]
            place = dict(zip(values, places, strict=True))
            style = distinct(index)
            drawn = _draw(ax, groups, place, style, numeric, goal) or drawn
            keys.append(Key(label=method, style=style, band=False))
        if not drawn:
            return None
        ax.xaxis.set_major_locator(FixedLocator(_spaced(places, spread_out)))
        ax.xaxis.set_minor_locator(NullLocator())
        named = dict(zip(places, values, strict=True))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _tick(named.get(x, x))))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        ax.margins(x=0.06, y=0.12)
        name = goal.name[:1].upper() + goal.name[1:]
        unit = f", {unit_of(goal)}" if goal.unit else ""
        ax.set_title(f"{name} after the hard prune{unit}")
        ax.set_xlabel(setting_name(setting))
        title = f"Final hard-pruned {goal.name} against {setting}"
        picture = svg(figure, "ablation", title)
    caption = f"Final {goal.name}, cut and not retrained, for each value of {setting}."
    if any(len(g.runs) > 1 for g in comparison.groups):
        caption += " Bars are Student-t 95\u202f% intervals of the mean over seeds."
    return Drawing(svg=picture, caption=caption, keys=keys if len(keys) > 1 else ())


def _draw(
    ax: Axes,
    groups: Sequence[MethodRuns],
    place: dict[object, float],
    style: Style,
    joined: bool,
    goal: Goal,
) -> bool:
    points, (scale, (least, most)) = [], scale_of(goal)
    for group in groups:
        centre = group.mean(lambda run: run.final("hard_pruned"))
        if centre is not None and group.value in place:
            points.append((place[group.value], scale * centre.mean, centre.half_width))
    if not points:
        return False
    points.sort(key=lambda point: point[0])
    x, y = [p[0] for p in points], [p[1] for p in points]
    line = style.line if joined else {"color": style.colour, "linestyle": "none"}
    ax.plot(x, y, **line, marker="o", markersize=5)
    for at, middle, half in points:
        if half is not None:
            low, high = max(least, middle - scale * half), min(most, middle + scale * half)
            ax.plot([at, at], [low, high], color=style.colour, linewidth=1.2, alpha=0.7)
    return True


def _spaced(places: Sequence[float], log: bool) -> list[float]:
    """The places whose labels have room, the first and the last among them."""
    at = np.log(places) if log else np.asarray(places)
    gap = 0.09 * float(np.ptp(at))
    kept = [len(places) - 1]
    for index in range(len(places) - 1):
        if abs(at[index] - at[-1]) >= gap and (
            len(kept) == 1 or abs(at[index] - at[kept[-1]]) >= gap
        ):
            kept.append(index)
    return [places[index] for index in sorted(kept)]


def _tick(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)
