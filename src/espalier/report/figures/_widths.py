"""The architecture before and after compaction: the outputs of every layer."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np

from espalier.report._numbers import count
from espalier.report.figures._base import INK, RC, SOFT, Drawing, Key, Style, canvas, svg

_ROWS = 30  # layers in one drawing; more go into the next
_BEFORE, _AFTER = Style(colour="#cfdad4"), Style(colour="#16655a")
_KEYS = (
    Key(label="before", style=_BEFORE, block=True),
    Key(label="after", style=_AFTER, block=True),
)
_LONGEST = 34  # characters of a layer's name

Width = tuple[str, float, float]
"""The name of a layer's weight, its outputs before and after."""


def widths(layers: Sequence[Width], name: str) -> list[Drawing]:
    """Bars of the outputs before, and in front of them after; one row per layer, on one scale.

    Args:
        layers: In the model's order.
        name: What tells this run's drawings from others on the page.
    """
    parts = -(-len(layers) // _ROWS)
    widest = max((before for _, before, _ in layers), default=0)
    return [
        _drawing([layers[i] for i in part], widest, f"{name}-widths-{at}")
        for at, part in enumerate(np.array_split(np.arange(len(layers)), max(parts, 1)))
        if len(part)
    ]


def _drawing(layers: Sequence[Width], widest: float, name: str) -> Drawing:
    rows = np.arange(len(layers))
    with mpl.rc_context(RC):
        figure, ax = canvas(30 + 18 * len(layers))
        ax.barh(rows, [before for _, before, _ in layers], height=0.72, color=_BEFORE.colour)
        ax.barh(rows, [after for _, _, after in layers], height=0.72, color=_AFTER.colour)
        for row, (_, before, after) in enumerate(layers):
            told = f"{count(before)} → {count(after)}" if before != after else count(before)
            colour = INK if before != after else SOFT
            ax.annotate(
                told, (before, row), (5, 0), textcoords="offset points",
                va="center", fontsize=10, color=colour,
            )  # fmt: skip
        ax.set_yticks(rows, [_short(layer) for layer, _, _ in layers], fontsize=10)
        ax.set_ylim(len(layers) - 0.4, -0.6)
        ax.set_xlim(0, 1.3 * widest)
        ax.set_xticks([])
        ax.grid(visible=False)
        ax.spines["bottom"].set_visible(False)
        picture = svg(figure, name, f"Outputs of {len(layers)} layers before and after compaction")
    return Drawing(svg=picture, caption="", keys=_KEYS)


def _short(name: str) -> str:
    """A weight's layer; of a long name the end."""
    layer = name.removesuffix(".weight")
    return layer if len(layer) <= _LONGEST else f"…{layer[1 - _LONGEST :]}"
