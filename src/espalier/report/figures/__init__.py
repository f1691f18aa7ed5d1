"""The page's figures: one function a figure, each giving a drawing ready for the page."""

from espalier.report.figures._ablation import ablation
from espalier.report.figures._base import Drawing, Key, styles_for
from espalier.report.figures._certificate import certificate
from espalier.report.figures._conditions import conditions
from espalier.report.figures._curves import BANDED, curves
from espalier.report.figures._heatmaps import Heatmap, heat_stops, heatmaps
from espalier.report.figures._widths import widths

__all__ = [
    "BANDED",
    "Drawing",
    "Heatmap",
    "Key",
    "ablation",
    "certificate",
    "conditions",
    "curves",
    "heat_stops",
    "heatmaps",
    "styles_for",
    "widths",
]
