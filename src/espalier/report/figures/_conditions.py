"""The surrogate conditions over time (the SLR paper's Figure 7), with s, ρ and slack."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from espalier.report._numbers import finite
from espalier.report._runs import Json, Run
from espalier.report.figures._base import (
    INK,
    MET,
    RC,
    REFUSED,
    UNTESTED,
    Drawing,
    Key,
    Style,
    canvas,
    decimate,
    log_axis,
    svg,
    whole_numbers,
)

_COLUMNS = 360
_ROWS = (("condition_3", "condition (3)"), ("condition_8", "condition (8)"))
_KEYS = (
    Key(label="met", style=Style(colour=MET), block=True),
    Key(label="refused", style=Style(colour=REFUSED), block=True),
    Key(label="not tested", style=Style(colour=UNTESTED), block=True),
)


def conditions(run: Run, name: str) -> list[Drawing]:
    """The raster of met and refused updates, and the step, penalty and slack beside it."""
    updates = [u for u in run.updates if finite(u.get("step")) is not None]
    drawings: list[Drawing | None] = []
    if any(isinstance(u.get(key), bool) for u in updates for key, _ in _ROWS):
        drawings.append(_raster(updates, f"{name}-raster"))
    if len(updates) > 1:
        drawings.append(_quantities(updates, f"{name}-step"))
    return [drawing for drawing in drawings if drawing is not None]


def _raster(updates: Sequence[Json], name: str) -> Drawing:
    bins = np.array_split(np.arange(len(updates)), min(len(updates), _COLUMNS))
    edges = _edges([float(u["step"]) for u in updates])
    with mpl.rc_context(RC):
        figure, ax = canvas(150)
        for row, (key, _) in enumerate(_ROWS):
            values = [u.get(key) for u in updates]
            colours = [_colour([values[i] for i in part]) for part in bins]
            spans = [(edges[part[0]], edges[part[-1] + 1]) for part in bins]
            for start, end, colour in _runs(spans, colours):
                ax.broken_barh([(start, end - start)], (row - 0.36, 0.72), color=colour, lw=0)
        ax.set_yticks(range(len(_ROWS)), [label for _, label in _ROWS])
        ax.tick_params(axis="y", labelcolor=INK)
        ax.set_ylim(1.55, -0.55)
        ax.set_xlim(edges[0], edges[-1])
        ax.grid(visible=False)
        ax.spines["left"].set_visible(False)
        ax.set_xlabel("optimiser step")
        whole_numbers(ax)
        drawing = svg(figure, name, "Surrogate conditions met and refused at each update")
    told = "; ".join(filter(None, (_told(updates, key, label) for key, label in _ROWS)))
    caption = f"{told}. Where either is refused, that half of the multiplier update is not made."
    if len(updates) > _COLUMNS:
        caption += " Several updates share a column; it is drawn refused if any of them was."
    seen = {_colour([u.get(key)]) for u in updates for key, _ in _ROWS}
    keys = [key for key in _KEYS if key.style.colour in seen]
    return Drawing(svg=drawing, caption=caption[0].upper() + caption[1:], keys=keys)


def _told(updates: Sequence[Json], key: str, label: str) -> str:
    tested = [u[key] for u in updates if isinstance(u.get(key), bool)]
    return f"{label} was met in {sum(tested):,} of {len(tested):,} updates" if tested else ""


def _colour(values: Sequence[object]) -> str:
    if any(value is False for value in values):
        return REFUSED
    return MET if any(value is True for value in values) else UNTESTED


def _edges(steps: Sequence[float]) -> list[float]:
    """Each update owns the interval that ends at its step."""
    first = steps[0] - (steps[1] - steps[0]) if len(steps) > 1 else steps[0] - 1
    return [max(0.0, first), *steps]


def _runs(
    spans: Sequence[tuple[float, float]], colours: Sequence[str]
) -> list[tuple[float, float, str]]:
    """Neighbouring spans of one colour, joined."""
    joined: list[tuple[float, float, str]] = []
    for (start, end), colour in zip(spans, colours, strict=True):
        if joined and joined[-1][2] == colour:
            joined[-1] = (joined[-1][0], end, colour)
        else:
            joined.append((start, end, colour))
    return joined


def _quantities(updates: Sequence[Json], name: str) -> Drawing | None:
    shown = [
        (key, title, log)
        for key, title, log in (
            ("s", "Step s of the multipliers", True),
            ("rho", "Penalty ρ", True),
            ("slack", "Slack: 1 is dense, 0 the budget", False),
        )
        if _worth_drawing(updates, key)
    ]
    if not shown:
        return None
    with mpl.rc_context(RC):
        figure, axes = canvas(48 + 112 * len(shown), nrows=len(shown), sharex=True, squeeze=False)
        for ax, (key, title, log) in zip(axes[:, 0], shown, strict=True):
            _quantity(ax, updates, key, log)
            ax.set_title(title)
        axes[-1, 0].set_xlabel("optimiser step")
        whole_numbers(axes[-1, 0])
        drawing = svg(figure, name, "Step, penalty and slack against optimiser steps")
    return Drawing(svg=drawing, caption=_constants(updates))


def _worth_drawing(updates: Sequence[Json], key: str) -> bool:
    return len({finite(u.get(key)) for u in updates} - {None}) > 1


def _constants(updates: Sequence[Json]) -> str:
    told = []
    for key, symbol in (("s", "s"), ("rho", "ρ"), ("slack", "Slack")):
        values = {finite(u.get(key)) for u in updates} - {None}
        if len(values) == 1:
            told.append(f"{symbol} = {values.pop():g} throughout.")
    return " ".join(told)


def _quantity(ax: Axes, updates: Sequence[Json], key: str, log: bool) -> None:
    values = [finite(u.get(key)) for u in updates]
    if log:
        values = [value if value and value > 0 else None for value in values]
    x, y = decimate([float(u["step"]) for u in updates], values)
    ax.plot(x, y, color=MET, drawstyle="steps-post")
    if log and np.isfinite(y).any():
        log_axis(ax)
    else:
        ax.set_ylim(-0.04, 1.04)
        ax.set_yticks([0, 0.5, 1])
