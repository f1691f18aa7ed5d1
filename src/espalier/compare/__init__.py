"""Compare: several methods on the same model, data order, epochs, cadence, evaluator and seeds."""

from espalier._interval import Interval, interval
from espalier.compare.contest import Contestant, contestants
from espalier.compare.result import ComparisonResult, Row
from espalier.compare.running import run_comparison

__all__ = [
    "ComparisonResult",
    "Contestant",
    "Interval",
    "Row",
    "contestants",
    "interval",
    "run_comparison",
]
