"""The verdict on a run: from what happened, and from what is true of its method."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from espalier.methods._certificate import Certificate, Figures, Forced, Outcome, Taken
from espalier.methods._update import Update
from espalier.solvers import Approach

_GONE = "The weights are not finite, so there is no verdict"


@dataclass(frozen=True, kw_only=True)
class Course:
    """What happened.

    Attributes:
        approach: What is true of every run of the method.
        steps: Optimiser steps counted.
        updates: In order.
        ahead: What a cut would take now.
        left: The part of the weights that a cut would leave, or has left, and the plan's, where what is left is
            not on the plan; ``None``: it is.
        forced: When zeros were forced upon the weights, in order.
        figures: What that cost.
        finite: Whether all weights are finite now.
        done: Whether nothing is left to cut.
        advice: What was said before the run began.
    """

    approach: Approach
    steps: int
    updates: Sequence[Update] = ()
    ahead: Taken
    left: tuple[float, float] | None = None
    forced: Sequence[Forced] = ()
    figures: Figures | None = None
    finite: bool = True
    done: bool = False
    advice: Sequence[str] = ()

    @property
    def along(self) -> float:
        """Σ of what the updates took, where they set zeros themselves."""
        return sum(u.violation for u in self.updates) if self.approach.goes_along else 0.0

    @property
    def lost(self) -> float:
        """All that was taken, in parts of the norm of its moment."""
        return sum(one.total for one in self.forced) + self.along

    @property
    def worse(self) -> float:
        """How much worse the metric was after the zeros were forced than before, relative to before."""
        figures = self.figures
        if figures is None or figures.cost is None or figures.before is None:
            return 0.0
        if figures.before == 0:  # whatever is worse than nothing is much worse
            return math.inf if figures.cost > 0 else 0.0
        return figures.cost / abs(figures.before)

    @property
    def falling(self) -> bool:
        """Whether the violation was still falling at the last update, or the budget closing."""
        if not self.updates:
            return True
        last, before = self.updates[-1], -max(1, len(self.updates) // 4) - 1
        earlier = self.updates[before].violation if len(self.updates) > 1 else math.inf
        return last.slack > 0 or last.violation <= 0.95 * earlier


def certify(course: Course, tolerance: float = 1e-2) -> Certificate:
    """The certificate of a run.

    Args:
        course: What happened.
        tolerance: The part of the weights' norm, and of the metric's figure, that counts as nothing.
    """
    outcome, what, why = _verdict(course, tolerance)
    if course.left is not None and outcome is not Outcome.NON_FINITE:
        left, planned = course.left
        why = f"That leaves {left:.2%} of the weights, off the plan, which has {planned:.2%}. {why}"
        if outcome is Outcome.CONVERGED:
            remedy = course.approach.remedy or ""
            outcome, why = Outcome.STALLED, f"{why} {remedy[:1].upper()}{remedy[1:]}."
    updates = course.updates
    blind = sum(u.condition_8 is not None and u.condition_3 is None for u in updates)
    if blind and outcome is not Outcome.NON_FINITE:
        at = "any update" if blind == len(updates) else f"{blind} of {len(updates)} updates"
        why = f"{why} Condition (3) was not asked at {at}: no loss was told, and there is no probe.".strip()
    layers = updates[-1].layers if updates else {}
    first = [u.condition_3 for u in updates]
    second = [u.condition_8 for u in updates]
    return Certificate(
        outcome=outcome, what=what, why=why,
        steps=course.steps, updates=len(updates), tolerance=tolerance,
        total_violation=0.0 if course.done else course.ahead.total,
        violation={n: 0.0 if course.done else v for n, v in course.ahead.layers.items()},
        forced=tuple(course.forced), figures=course.figures,
        z_change={n: layer.z_change for n, layer in layers.items()},
        multiplier_change={n: layer.multiplier_change for n, layer in layers.items()},
        s=updates[-1].s if updates else 0.0,
        conditions=(_fraction(first), _fraction(second)), advice=tuple(course.advice),
    )  # fmt: skip


def _verdict(course: Course, tolerance: float) -> tuple[Outcome, str, str]:
    approach, ahead = course.approach, course.ahead.total
    seen = [course.lost, ahead, *((u.loss or 0.0) + u.violation for u in course.updates)]
    if not (course.finite and all(math.isfinite(x) for x in seen)):
        return Outcome.NON_FINITE, _GONE, "Lower the learning rate or rho, or clip gradients."
    if course.forced or course.along or (course.done and approach.remedy is None):
        return _of_forced(course, tolerance)
    if course.steps == 0:
        what = f"Nothing was trained yet, and a cut would take {ahead:.2%} of the weights' norm"
        return Outcome.BUDGET_SPENT, what, ""
    if ahead <= tolerance and approach.remedy is not None:
        what = f"A cut takes {ahead:.2%} of the weights' norm, within {tolerance:.2%}"
        return Outcome.CONVERGED, what, approach.sentence
    what = f"A cut would take {ahead:.2%} of the weights' norm"
    if approach.remedy is None:
        return Outcome.BUDGET_SPENT, what, approach.sentence
    if not course.updates:
        why = "No update was made: the run was too short for one."
        return Outcome.BUDGET_SPENT, what, why
    if course.falling:
        return Outcome.BUDGET_SPENT, what, "That was still falling; give it more epochs."
    why = f"The last quarter of the updates did not lower that; {approach.remedy}."
    return Outcome.STALLED, what, why


def _of_forced(course: Course, tolerance: float) -> tuple[Outcome, str, str]:
    approach = course.approach
    what = ". ".join(filter(None, (_along(course), _moment(course))))
    if approach.remedy is None:
        return Outcome.FORCED, what, approach.sentence
    if course.steps == 0 or (
        course.forced and course.forced[0].step == 0 and course.lost > tolerance
    ):
        return Outcome.FORCED, what, "Nothing had been trained by then."
    if course.lost <= tolerance and course.worse <= tolerance:
        return Outcome.CONVERGED, what, approach.sentence
    if not course.updates:
        return Outcome.FORCED, what, "No update had been made by then; update more often."
    if course.falling:
        return (
            Outcome.FORCED,
            what,
            "The violation was still falling then: force later, or update more often.",
        )
    return Outcome.FORCED, what, f"The violation had stopped falling by then; {approach.remedy}."


def _along(course: Course) -> str:
    """What the updates took, as a sentence; nothing where they take nothing."""
    if not course.along:
        return ""
    most = max(course.updates, key=lambda u: u.violation)
    told = (
        f"{len(course.updates)} updates took up to {most.violation:.2%} of the weights' norm each "
    )
    return told + f"(step {most.step})"


def _moment(course: Course) -> str:
    """When zeros were forced and what that took: of several times, when it took most."""
    if not course.forced:
        return "" if course.along else "The zeros were there before, and nothing was taken"
    most = max(course.forced, key=lambda one: one.total)
    if course.along and most.total < 5e-5:
        return ""
    when = f"at step {most.step}" if most.step else "before the first step"
    told = f"Forced {when}: took {most.total:.2%} of the weights' norm"
    rest = sum(one.total for one in course.forced) - most.total
    return told + (f" ({rest:.2%} more at other times)" if rest >= 5e-5 else "")


def _fraction(flags: Sequence[bool | None]) -> float | None:
    asked = [flag for flag in flags if flag is not None]
    return sum(asked) / len(asked) if asked else None
