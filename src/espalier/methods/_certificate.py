"""The certificate: what became of the weights, and the verdict.

taken(w, z)     per layer ‖W − Z‖ and ‖W‖: what writing Z over W takes
Forced          that, at the moment when zeros were forced upon the weights
Figures         what the task's metric was on either side of that moment, and at the end
Certificate     all of it, with the verdict in words (``_verdict.py``)
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any

from espalier._ground.types import Weights
from espalier.solvers._algebra import difference, norms
from espalier.tasks import Goal


class Outcome(Enum):
    """How a run ended."""

    CONVERGED = "converged"
    FORCED = "forced"
    BUDGET_SPENT = "budget_spent"
    STALLED = "stalled"
    NON_FINITE = "non_finite"


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What writing Z over W takes: Frobenius norms by layer.

    Example:
        >>> one = Taken(weight={"a": 4.0, "b": 0.0}, violation={"a": 1.0, "b": 0.0})
        >>> one.total, one.layers
        (0.25, {'a': 0.25, 'b': 0.0})
    """

    weight: Mapping[str, float]
    violation: Mapping[str, float]

    @property
    def total(self) -> float:
        """Σ‖W − Z‖ / Σ‖W‖ over the layers."""
        return _share(sum(self.violation.values()), sum(self.weight.values()))

    @property
    def layers(self) -> dict[str, float]:
        """‖W − Z‖ / ‖W‖ of each."""
        return {name: _share(self.violation[name], w) for name, w in self.weight.items()}


def taken(w: Weights, z: Weights) -> Taken:
    """What writing ``z`` over ``w`` takes; a name that ``z`` lacks keeps its weights."""
    z = {name: z[name] for name in w if name in z}
    return Taken(weight=norms(w), violation={n: 0.0 for n in w} | norms(difference(w, z)))


@dataclass(frozen=True, kw_only=True)
class Forced:
    """Zeros were forced upon the weights: they settled, were cut, or were held from the first step.

    Attributes:
        step: Optimiser steps done by then.
        total: Σ‖W − Z‖ / Σ‖W‖ that it took.
        layers: ‖W − Z‖ / ‖W‖ by layer.
    """

    step: int
    total: float
    layers: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The task's metric before zeros were first forced upon the weights, at first after that, and at last.

    Each with the step at which it was measured; ``None``: there was no evaluation.
    """

    goal: Goal
    before: float | None = None
    before_step: int | None = None
    after: float | None = None
    after_step: int | None = None
    end: float | None = None

    def then(self, step: int, figure: float, *, forced: bool) -> "Figures":
        """With one more evaluation; ``forced``: whether zeros had been forced upon the weights by then."""
        if not forced:
            return replace(self, before=figure, before_step=step)
        if self.after is None:
            return replace(self, after=figure, after_step=step, end=figure)
        return replace(self, end=figure)

    @property
    def cost(self) -> float | None:
        """How much worse it was after than before, in the metric's own unit; ``None``: not known."""
        if self.before is None or self.after is None:
            return None
        return self.goal.loss(self.before, self.after)

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> "Figures":
        """From nested plain data, as ``dataclasses.asdict`` makes them."""
        return cls(**{**saved, "goal": Goal(**saved["goal"])})

    def words(self) -> str:
        """What forcing cost, as the end of a sentence; nothing where it is not known.

        Example:
            >>> Figures(goal=Goal(), before=0.971, after=0.848, end=0.939).words()
            ' and 12.3 points of accuracy, of which 9.1 came back'
            >>> Figures(goal=Goal(name="loss", unit="", higher_is_better=False), before=0.1, after=0.3).words()
            '; loss 0.1 before, 0.3 after'
        """
        cost = self.cost
        if cost is None or self.before is None or self.after is None:
            return ""
        if self.goal.unit != "fraction" or not math.isfinite(cost):
            shown = self.goal.shown
            told = f"; {self.goal.name} {shown(self.before)} before, {shown(self.after)} after"
            back = self.end is not None and self.end != self.after
            return told + (
                f", {shown(self.end)} at the end" if back and self.end is not None else ""
            )
        if cost < 5e-4:
            return f" and no {self.goal.name}"
        came = 0.0 if self.end is None else self.goal.loss(self.end, self.after)
        gained = f", of which {100 * came:.1f} came back" if came >= 5e-4 else ""
        return f" and {100 * cost:.1f} points of {self.goal.name}{gained}"


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What can be said of a run.

    Attributes:
        outcome: Converged when training brought the weights so near to their sets that forcing the zeros took
            at most ``tolerance`` of their norm Σ‖W−Z‖/Σ‖W‖, and of the task's metric where that is known.
        what: What happened, in words; the figures of the metric follow it in the sentence.
        why: What is true of the method, or what to do.
        steps: Optimiser steps counted.
        updates: Of the solver.
        total_violation: What a cut would take now; 0 once it is done.
        violation: Per layer ‖W−Z‖/‖W‖, likewise.
        forced: When zeros were forced upon the weights, and what that took.
        figures: What it cost in the task's metric; ``None``: it was not told of any evaluation.
        z_change: Per layer ‖Z⁺ − Z‖ at the last update.
        multiplier_change: Per layer ‖Λ⁺ − Λ‖ at the last update.
        s: The step of the multipliers at the last update.
        conditions: Fraction of updates at which conditions (3) and (8) held; ``None``: not asked.
        advice: What was said before the run began.
    """

    outcome: Outcome
    what: str
    why: str
    steps: int
    updates: int
    tolerance: float
    total_violation: float
    violation: Mapping[str, float]
    forced: tuple[Forced, ...] = ()
    figures: Figures | None = None
    z_change: Mapping[str, float] = field(default_factory=dict)
    multiplier_change: Mapping[str, float] = field(default_factory=dict)
    s: float = 0.0
    conditions: tuple[float | None, float | None] = (None, None)
    advice: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The verdict for a reader."""
        cost = "" if self.figures is None else self.figures.words()
        return f"{self.what}{cost}. {self.why}".strip()

    def ended(self, figure: float) -> "Certificate":
        """With the metric's figure at the very end, after training that came later."""
        return (
            self
            if self.figures is None
            else replace(self, figures=replace(self.figures, end=figure))
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            **asdict(self),
            "outcome": self.outcome.value,
            "sentence": self.sentence,
            "conditions": list(self.conditions),
            "forced": [asdict(one) for one in self.forced],
            "advice": list(self.advice),
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> "Certificate":
        """The inverse of ``to_dict``."""
        first, second = saved["conditions"]
        return cls(
            **{name: saved[name] for name in cls.__dataclass_fields__ if name not in _OWN_TYPES},
            outcome=Outcome(saved["outcome"]),
            forced=tuple(Forced(**one) for one in saved["forced"]),
            figures=None if saved["figures"] is None else Figures.from_dict(saved["figures"]),
            conditions=(first, second),
            advice=tuple(saved["advice"]),
        )


_OWN_TYPES = {"outcome", "forced", "figures", "conditions", "advice"}


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0 * part
