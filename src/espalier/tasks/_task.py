"""What the training loop asks of a task, and nothing more."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

Batch = Any
"""What ``batches`` yields and ``loss`` takes; opaque to everyone else."""


@runtime_checkable
class Task(Protocol):
    """Loss, evaluation and batches: what to write to prune a model on a problem of your own."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch."""

    @property
    def example_input(self) -> Tensor:
        """One input batch, for counting MACs and tracing."""

    @property
    def goal_metric(self) -> str:
        """The key of ``evaluate`` that a run is judged by; higher is better."""

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from ``start`` on: a pure function of (seed, epoch, step)."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The differentiable scalar that training makes small."""

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Metrics as fractions in [0, 1] (losses apart), in eval mode; the mode is restored."""

    def calibration(self) -> Iterable[Tensor]:
        """Inputs, labels left out, for re-estimating BatchNorm statistics."""
