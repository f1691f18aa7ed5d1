"""Plans: which set and how many units each parameter of a model may keep, and on how many levels."""

from espalier.planning._allotment import Allotment, Allotter
from espalier.planning._build import plan
from espalier.planning._entry import Entry, Skipped
from espalier.planning._ledger import Delivered
from espalier.planning._plan import Plan
from espalier.planning._quantise import Bits, quantise_plan
from espalier.planning._ranking import Per, Ranking
from espalier.planning._restore import above_break_even

__all__ = [
    "Allotment",
    "Allotter",
    "Bits",
    "Delivered",
    "Entry",
    "Per",
    "Plan",
    "Ranking",
    "Skipped",
    "above_break_even",
    "plan",
    "quantise_plan",
]
