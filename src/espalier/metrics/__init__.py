"""Metrics: the diagonal norm in which the nearest point of a set is meant."""

from espalier.metrics._metric import Gauge, Identity, Metric
from espalier.metrics.activations import Activations
from espalier.metrics.adam import AdamMoment
from espalier.metrics.fisher import Fisher

__all__ = ["Activations", "AdamMoment", "Fisher", "Gauge", "Identity", "Metric"]
