"""Purification of a run's model: the guard looks at training data, never at the test set."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from espalier.compaction import Purified
    from espalier.recipe._running import Job
    from espalier.tasks import Goal, JudgedOn

SAMPLES = 10_000
"""Training samples that the guard looks at, at most."""


@dataclass(frozen=True, kw_only=True)
class RunPurified:
    """A purified model, with what the test set says of it.

    Attributes:
        found: What was done.
        goal: The figure that the guard looked at, on at most ``SAMPLES`` training samples.
        test: That figure on the test set, before and after; on the validation set if the run has one.
        split: Which of them.
    """

    found: "Purified"
    goal: "Goal"
    test: tuple[float, float]
    split: "JudgedOn" = "test"

    def remarks(self) -> list[str]:
        """What it cost and where the thresholds ended, one line for each."""
        found, at, goal = self.found, self.found.thresholds, self.goal
        before, after = (_signed(goal, score) for score in (found.score_before, found.score_after))
        return [
            f"guard: {goal.name} on up to {SAMPLES:,} training samples, without augmentation, "
            f"{goal.shown(before)} before and {goal.shown(after)} after "
            f"(may get worse by {goal.shown(found.max_drop)}; {found.evaluations} models evaluated)",
            f"thresholds: column {at.column:.3g}, energy {at.energy:.3g}, filter {at.filter:.3g} × the "
            f"layer's mean, and at most {at.fraction:.0%} of a channel's columns left",
            f"{self.split} set: {goal.name} {goal.shown(self.test[0])} before and "
            f"{goal.shown(self.test[1])} after",
        ]

    def to_dict(self) -> dict[str, Any]:
        """For ``--json`` and the artefact."""
        before, after = self.test
        return {
            **self.found.to_dict(),
            "metric": self.goal.name,
            "training_samples_at_most": SAMPLES,
            "test": {"before": before, "after": after},
        }


def purified(job: "Job", model: "nn.Module", guard: float) -> RunPurified:
    """Purify a run's model under a guard on its training data.

    Args:
        job: Of the run.
        model: Its model; not modified.
        guard: How much worse the goal's figure may get, in its unit.
    """
    from espalier.compaction import purify
    from espalier.tasks import judged_on

    task, goal = job.task, job.task.goal
    figure = task.guard(SAMPLES)
    found = purify(
        model, task.example_input, lambda one: _signed(goal, figure(one)), max_drop=guard
    )
    test = (task.evaluate(model)[goal.name], task.evaluate(found.model)[goal.name])
    return RunPurified(found=found, goal=goal, test=test, split=judged_on(task))


def _signed(goal: "Goal", figure: float) -> float:
    """Purification keeps a score high: a figure that should be low enters it negated, and back."""
    return figure if goal.higher_is_better else -figure
