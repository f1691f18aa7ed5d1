"""What all figures share: one width, one type size, one palette, and SVG of the same bytes always.

Text stays text in the SVG and takes the page's font. Legends are HTML beside the figure, so that
they never cover data.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from espalier.report._groups import MethodRuns
from espalier.report._numbers import finite, power_of_ten

WIDTH = 460  # CSS pixels; the height is each figure's own
INK, SOFT, RULE, GRID = "#1d2421", "#59625d", "#a3aaa5", "#e9ebe7"
MET, REFUSED, UNTESTED = "#0072b2", "#e69f00", "#dfe2dd"
# Okabe and Ito's palette without its yellow, which vanishes on white; greys end it.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#4d4d4d")
# On the page these are the style sheet's variables, so that a figure follows a dark page as its text does.
_ROLES = {INK: "--ink", SOFT: "--soft", RULE: "--faint", GRID: "--grid", PALETTE[-1]: "--grey"}
DASHES = ("", "6 2.4", "1.6 1.8", "7 2 1.6 2")
POINTS = 480  # a curve has no more points than this

RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "espalier",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",  # for measuring only: it ships with matplotlib
    "font.size": 11.5,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.linewidth": 0.8,
    "axes.labelcolor": SOFT,
    "axes.labelsize": 11.5,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.titlepad": 8.0,
    "axes.titleweight": "bold",
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.9,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "xtick.major.size": 3.5,
    "ytick.major.size": 0.0,
    "ytick.minor.size": 0.0,
    "xtick.minor.size": 0.0,
    "lines.linewidth": 1.9,
    "lines.solid_capstyle": "round",
    "lines.dash_capstyle": "butt",
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True, kw_only=True)
class Style:
    """How one series is drawn."""

    colour: str
    dash: str = ""

    @property
    def line(self) -> dict[str, Any]:
        """Keyword arguments for ``Axes.plot``."""
        parts = tuple(float(part) for part in self.dash.split())
        return {"color": self.colour, "linestyle": (0, parts) if parts else "-"}


@dataclass(frozen=True, kw_only=True)
class Key:
    """One entry of a legend: a line, with its interval band if ``band``, or a block of colour."""

    label: str
    style: Style
    band: bool = False
    block: bool = False


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure for the page.

    Attributes:
        svg: the picture.
        caption: what is drawn and how to read it.
        keys: the legend, set above the picture.
    """

    svg: Markup
    caption: str
    keys: Sequence[Key] = ()


def styles_for(groups: Sequence[MethodRuns]) -> list[Style]:
    """One style a group: distinct colours, or for an ordered setting a ramp, dashed by method."""
    known = {g.value for g in groups if finite(g.value) is not None}
    methods = list(dict.fromkeys(group.method for group in groups))
    if len(known) < 3 or any(finite(g.value) is None for g in groups):
        return [distinct(index) for index in range(len(groups))]
    ramp = dict(zip(sorted(known), ramp_colours(len(known)), strict=True))
    return [
        Style(colour=ramp[g.value], dash=DASHES[methods.index(g.method) % len(DASHES)])
        for g in groups
    ]


def distinct(index: int) -> Style:
    """Colours first, then the same colours dashed."""
    dash = DASHES[index // len(PALETTE) % len(DASHES)]
    return Style(colour=PALETTE[index % len(PALETTE)], dash=dash)


def ramp_colours(n: int) -> list[str]:
    """``n`` colours from dark to light of a perceptually even, colour-blind-safe ramp."""
    ramp = mpl.colormaps["viridis"]
    return [mpl.colors.to_hex(ramp(at)) for at in np.linspace(0.0, 0.86, n)]


def canvas(height: int, width: int = WIDTH, **layout: Any) -> tuple[Figure, Any]:
    """A figure ``width`` by ``height`` pixels and its axes (``layout`` as in ``subplots``)."""
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.set(w_pad=0.05, h_pad=0.04)  # type: ignore[call-arg]
    return figure, figure.subplots(**layout)


def svg(figure: Figure, name: str, title: str) -> Markup:
    """The figure as inline SVG: no prologue, metadata or style, its ids made the page's own by ``name``."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(_METADATA), transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href=", "href=")
    text = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), text)
    for colour, role in _ROLES.items():
        text = text.replace(f": {colour}", f": var({role})")
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    head = re.match(r"<svg[^>]*?(viewBox=\"[^\"]*\")[^>]*>", text)
    assert head is not None
    opening = Markup('<svg {} role="img" aria-label="{}">').format(Markup(head[1]), title)
    return opening + Markup(text[head.end() :].strip())


_METADATA = ("Date", "Creator", "Format", "Type")


def decimate(x: Sequence[float], y: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """At most ``POINTS`` points that keep every bin's lowest and highest value; gaps are NaN."""
    xs = np.asarray(x, dtype=float)
    ys = np.asarray([np.nan if v is None else v for v in y], dtype=float)
    ys[~np.isfinite(ys)] = np.nan
    if len(xs) <= POINTS:
        return xs, ys
    kept: list[int] = []
    for part in np.array_split(np.arange(len(xs)), POINTS // 2):
        seen = part[~np.isnan(ys[part])]
        if len(seen):
            kept += sorted({int(seen[ys[seen].argmin()]), int(seen[ys[seen].argmax()])})
    return xs[kept], ys[kept]


def log_axis(ax: Axes, ends: tuple[float, float] | None = None) -> None:
    """A logarithmic y axis; linear from zero where the values stay within a factor of five.

    Args:
        ax: With everything drawn.
        ends: Lowest and highest value to show; those drawn if None. Bands may go below.
    """
    low, high = ax.dataLim.intervaly if ends is None else ends
    if high < 5 * low:
        ax.set_ylim(0, 1.15 * high)
        ax.yaxis.set_major_locator(MaxNLocator(nbins=4))
        return
    ax.set_yscale("log", nonpositive="mask" if ends is None else "clip")
    decades = np.log10(high / low)
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0,) if decades > 2 else (1, 2, 5), numticks=7))
    label = power_of_ten if decades > 2 else "{:g}".format
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: label(value)))
    ax.yaxis.set_minor_locator(NullLocator())


def whole_numbers(ax: Axes) -> None:
    """Ticks of the x axis at integers, with thousands separated."""
    if np.ptp(ax.dataLim.intervalx) == 0:
        ax.set_xlim(ax.dataLim.x0 - 0.5, ax.dataLim.x0 + 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True, min_n_ticks=1))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
