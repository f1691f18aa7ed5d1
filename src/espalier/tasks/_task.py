"""What a run asks of a task, and nothing more."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor, nn

from espalier._ground.example import Example

Batch = Any
"""What ``batches`` yields and ``loss`` takes; opaque to everyone else."""

DataPart = Literal["train", "test"]
"""Which of a task's two sets of inputs."""

JudgedOn = Literal["test", "validation"]
"""Whether ``evaluate`` sees test data, or training data that were held out so that choices spare the test data."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """The figure that a run is judged by.

    Attributes:
        name: The key of ``evaluate``.
        unit: ``"fraction"`` for figures in [0, 1], which are printed in per cent; else what it counts.
        higher_is_better: False for losses, errors, perplexities.
    """

    name: str = "accuracy"
    unit: str = "fraction"
    higher_is_better: bool = True

    def reached(self, figure: float, wanted: float) -> bool:
        """Whether a figure is as good as what was wanted.

        >>> Goal(name="perplexity", unit="", higher_is_better=False).reached(8.1, 9.0)
        True
        """
        return figure >= wanted if self.higher_is_better else figure <= wanted

    def loss(self, before: float, after: float) -> float:
        """How much worse ``after`` is than ``before``; negative where it is better."""
        return before - after if self.higher_is_better else after - before

    def shown(self, figure: float) -> str:
        """The figure for people.

        >>> Goal().shown(0.98125), Goal(name="loss", unit="").shown(0.25)
        ('98.12 %', '0.25')
        >>> Goal(name="wrong", unit="errors", higher_is_better=False).shown(12345)
        '12,345 errors'
        """
        if self.unit == "fraction":
            return f"{100 * figure:.2f} %"
        # Counts are written out: four significant digits would lose the last of 12,345 errors.
        number = f"{figure:,.0f}" if 1e4 <= abs(figure) < 1e9 else f"{figure:.4g}"
        return f"{number} {self.unit}".strip()


@runtime_checkable
class Task(Protocol):
    """Loss, evaluation and batches: what to write to prune a model on a problem of your own."""

    @property
    def goal(self) -> Goal:
        """The figure that a run is judged by."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches per epoch."""

    @property
    def example_input(self) -> Example:
        """One input batch, for counting MACs and tracing."""

    @property
    def model_arguments(self) -> Mapping[str, Any]:
        """What the data say of the model, such as ``{"classes": 10}``; for our own networks."""

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from ``start`` on: a pure function of (seed, epoch, step)."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The differentiable scalar that training makes small."""

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Metrics by name, the goal's among them, in eval mode; the mode is restored."""

    def inputs(self, part: DataPart = "train", limit: int | None = None) -> Iterator[Example]:
        """Inputs in batches, without labels.

        Args:
            part: ``"train"``: as training sees them, for BatchNorm and calibration; ``"test"``: as
                evaluation sees them, for proofs and exports.
            limit: At most so many batches; ``None``: one epoch.
        """

    def guard(self, limit: int | None = None) -> Callable[[nn.Module], float]:
        """The goal's figure on *training* data, without augmentation: a guard that spares the test set.

        Args:
            limit: At most so many samples.
        """


def judged_on(task: Task) -> JudgedOn:
    """On which data a task's figures are: test data, unless it says otherwise in an attribute of this name."""
    found: JudgedOn = getattr(task, "judged_on", "test")
    return found


@runtime_checkable
class Parted(Protocol):
    """A task that can hold out a part of its training data, for a method that learns from two."""

    def parted(self, part: float, /) -> tuple[Task, Task]:
        """The task on the rest of its training data, and on ``part`` of it (a fraction); nothing is in both."""


@runtime_checkable
class Validating(Protocol):
    """A task that can be judged on a part of its training data, so that choices spare the test data."""

    def validating(self, part: float, /) -> Task:
        """The task without ``part`` of its training data (a fraction or a count), judged on that."""


@runtime_checkable
class Drawn(Protocol):
    """A task whose answers can be looked at."""

    def pictures(self, model: nn.Module) -> Sequence[bytes]:
        """A few test samples with what the model says to them, each a PNG; always the same samples."""
