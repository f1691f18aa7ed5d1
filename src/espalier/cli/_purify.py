"""Purification of a run's model: the guard looks at training images, never at the test set."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from espalier.cli._output import percent

if TYPE_CHECKING:
    from torch import nn

    from espalier.compaction import Purified
    from espalier.recipe._running import Job

IMAGES = 10_000
"""Training images that the guard looks at, at most: as many of every class."""


@dataclass(frozen=True, kw_only=True)
class RunPurified:
    """A purified model, with what the test set says of it.

    Attributes:
        found: What was done.
        images: How many training images the guard looked at.
        metric: The name of the score.
        test: The metric on the test set before and after, a fraction.
    """

    found: "Purified"
    images: int
    metric: str
    test: tuple[float, float]

    def remarks(self) -> list[str]:
        """What it cost and where the thresholds ended, a line each."""
        found, at = self.found, self.found.thresholds
        return [
            f"guard: {self.metric} on {self.images:,} training images, without augmentation, "
            f"{percent(found.score_before)} before and {percent(found.score_after)} after "
            f"(may fall by {percent(found.max_drop)}; {found.evaluations} models evaluated)",
            f"thresholds: column {at.column:.3g}, energy {at.energy:.3g}, filter {at.filter:.3g} × the "
            f"layer's mean, and at most {at.fraction:.0%} of a channel's columns left",
            f"test set: {self.metric} {percent(self.test[0])} before and {percent(self.test[1])} after",
        ]

    def to_dict(self) -> dict[str, Any]:
        """For ``--json`` and the artefact."""
        before, after = self.test
        return {
            **self.found.to_dict(),
            "metric": self.metric,
            "training_images": self.images,
            "test": {"before": before, "after": after},
        }


def purified(job: "Job", model: "nn.Module", guard: float) -> RunPurified:
    """Purify a run's model under a guard on its training images.

    Args:
        job: Of the run.
        model: Its model; not modified.
        guard: How much the task's metric may fall.
    """
    from espalier.compaction import purify
    from espalier.tasks import Classification

    task = job.task
    seen = task.train.first(IMAGES)
    judge = Classification(
        task.train, seen, task.batch_size, task.seed, device=task.device, loss_fn=task.loss_fn
    )
    metric = task.goal_metric
    found = purify(
        model, task.example_input, lambda one: judge.evaluate(one)[metric], max_drop=guard
    )
    test = (task.evaluate(model)[metric], task.evaluate(found.model)[metric])
    return RunPurified(found=found, images=len(seen), metric=metric, test=test)
