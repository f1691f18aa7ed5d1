"""Compare: several methods on the same model, data order, epochs, cadence, evaluator and seeds."""

from espalier._ground.interval import Interval, interval
from espalier.compare._contest import Contestant, contestants
from espalier.compare._result import ComparisonResult, Row
from espalier.compare._running import goal_of, run_comparison

__all__ = [
    "ComparisonResult",
    "Contestant",
    "Interval",
    "Row",
    "contestants",
    "goal_of",
    "interval",
    "run_comparison",
]
