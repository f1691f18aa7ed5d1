"""Metrics: the diagonal norm in which the nearest point of a set is meant."""

from espalier._ground.registry import discover
from espalier.metrics._activations import Activations
from espalier.metrics._adam import AdamMoment
from espalier.metrics._diagonal import diagonal
from espalier.metrics._fisher import Fisher
from espalier.metrics._metric import Gauge, Identity, Metric
from espalier.metrics._movement import Movement
from espalier.metrics._scores import ranking
from espalier.metrics._taylor import Taylor

__all__ = [
    "Activations",
    "AdamMoment",
    "Fisher",
    "Gauge",
    "Identity",
    "Metric",
    "Movement",
    "Taylor",
    "diagonal",
    "ranking",
]

discover(__name__, globals())
