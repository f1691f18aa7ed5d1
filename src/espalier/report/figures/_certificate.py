"""Per layer: how far the weights are from their set, and how much Z and Λ still move."""

from collections.abc import Callable, Sequence

import matplotlib as mpl
import numpy as np
from markupsafe import Markup

from espalier.report._numbers import finite
from espalier.report._runs import Json, Run
from espalier.report.figures._base import (
    PALETTE,
    RC,
    Drawing,
    Key,
    Style,
    canvas,
    decimate,
    distinct,
    log_axis,
    ramp_colours,
    svg,
    whole_numbers,
)

_QUANTITIES: tuple[tuple[str, str, str, Callable[[Json], float | None]], ...]


def relative_violation(layer: Json) -> float | None:
    """‖W−Z‖/‖W‖ of one layer at one update."""
    violation, weight = finite(layer.get("violation")), finite(layer.get("weight"))
    return violation / weight if violation is not None and weight else None


_QUANTITIES = (
    ("violation", "‖W − Z‖ / ‖W‖", "Distance of the weights from their set.", relative_violation),
    (
        "z-change",
        "‖Z⁺ − Z‖",
        "How far the projected point moved at the update.",
        lambda layer: finite(layer.get("z_change")),
    ),
    (
        "multiplier-change",
        "‖ΔΛ‖",
        "How far the multipliers moved at the update.",
        lambda layer: finite(layer.get("multiplier_change")),
    ),
)


def certificate(run: Run, name: str) -> list[Drawing]:
    """One drawing a quantity; a curve a layer, over optimiser steps, logarithmic."""
    updates = [u for u in run.updates if finite(u.get("step")) is not None and u.get("layers")]
    layers = list(dict.fromkeys(layer for u in updates for layer in u["layers"]))
    drawings = []
    for suffix, title, caption, value in _QUANTITIES:
        series = [[value(u["layers"].get(layer, {})) for u in updates] for layer in layers]
        positive = [[v if v and v > 0 else None for v in line] for line in series]
        if sum(v is not None for line in positive for v in line) > 1:
            zeros = sum(v == 0 for line in series for v in line)
            note = f"{caption} Zeros, which a logarithm cannot show, are left out." * bool(zeros)
            steps = [float(u["step"]) for u in updates]
            keys, picture = _draw(f"{name}-{suffix}", title, layers, steps, positive)
            drawings.append(Drawing(svg=picture, caption=note or caption, keys=keys))
    return drawings


def _styles(layers: Sequence[str]) -> list[Style]:
    """Distinct colours for few layers; for many, a ramp from the first layer to the last."""
    if len(layers) <= len(PALETTE):
        return [distinct(index) for index in range(len(layers))]
    return [Style(colour=colour) for colour in ramp_colours(len(layers))]


def _draw(
    name: str,
    title: str,
    layers: Sequence[str],
    steps: Sequence[float],
    series: Sequence[Sequence[float | None]],
) -> tuple[list[Key], Markup]:
    styles = _styles(layers)
    with mpl.rc_context(RC):
        figure, ax = canvas(250, width=350)
        for line, style in zip(series, styles, strict=True):
            x, y = decimate(steps, line)
            if np.isfinite(y).any():
                ax.plot(x, y, **style.line, linewidth=1.5)
        log_axis(ax)
        ax.set_title(title)
        ax.set_xlabel("optimiser step")
        whole_numbers(ax)
        picture = svg(figure, name, f"{title} of each layer against optimiser steps")
    keys = [Key(label=n, style=s) for n, s in zip(layers, styles, strict=True)]
    if len(layers) > len(PALETTE):
        middle = len(layers) // 2
        ends = (keys[0], keys[middle], keys[-1])
        return [*ends], picture
    return keys, picture
