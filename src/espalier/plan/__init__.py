"""Plans: which set and how many units each parameter of a model may keep."""

from espalier.plan._build import plan
from espalier.plan._plan import Plan
from espalier.plan.entry import Entry, Skipped

__all__ = ["Entry", "Plan", "Skipped", "plan"]
