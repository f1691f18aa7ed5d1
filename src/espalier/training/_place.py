"""Where the training loop is."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class Progress:
    """Where the training loop is; changes with every step.

    Attributes:
        phase: What this call of ``fit`` is named.
        steps_per_epoch: The task's.
        epoch: Epochs done.
        step: Steps done in the epoch under way.
        loss_sum: Of the losses of those steps.
        lr: Of the last step.
        epoch_seconds: Trained in the epoch under way.
        train_seconds: Trained in this phase, evaluation and checkpoints not counted.
        seconds: Spent in this phase in all.
        stopped: Why the phase is over: ``"epochs"`` or ``"goal"``; empty while it is not.
    """

    phase: str
    steps_per_epoch: int
    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    lr: float = 0.0
    epoch_seconds: float = 0.0
    train_seconds: float = 0.0
    seconds: float = 0.0
    stopped: str = ""

    @property
    def steps(self) -> int:
        """Steps done in this phase."""
        return self.epoch * self.steps_per_epoch + self.step
