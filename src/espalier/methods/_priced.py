"""What handles with a price in the loss share: evidence at intervals, until a cut takes what the price has shrunk."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from espalier.methods._evidence import MeanLoss, record
from espalier.methods._handle import Handle
from espalier.methods._method import Cut
from espalier.methods._update import Update
from espalier.sets import Constraint

RECORD_EVERY = 50
"""Steps between two entries of evidence."""


class Priced(Handle):
    """A price on the constrained tensors at work on one model; a subclass says what has it and what a cut leaves."""

    def __init__(
        self, model: nn.Module, constraint: Constraint, optimizer: Optimizer | None
    ) -> None:
        super().__init__(model, constraint, optimizer)
        self._loss, self._cut = MeanLoss(world=self.world), False

    @torch.no_grad()
    def _after_step_(self, loss: Tensor | float | None) -> None:
        """Record evidence when it is due. An override calls this last.

        Raises:
            NonFiniteError: The mean loss since the last record is NaN or infinite.
        """
        self._loss.add(loss)
        if self._count % RECORD_EVERY == 0 and not self._cut:
            self.updates.append(self._record())

    def _hold_from_now_(self, cut: Cut) -> None:
        super()._hold_from_now_(cut)
        self._cut = True

    def _weights(self) -> dict[str, Tensor]:
        return {name: self.model.get_parameter(name).detach() for name in self.constraint.names}

    def _record(self) -> Update:
        loss = self._loss.take(self._count, "lower the learning rate")
        return record(
            self._weights(), self.target().values, step=self._count, k=self._count // RECORD_EVERY,
            loss=loss,
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Everything: resume is exact to the bit."""
        own = {"loss": self._loss.state_dict(), "cut": self._cut}
        return {**super().state_dict(), **own}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``, into a handle made with the same arguments."""
        super().load_state_dict(saved)
        self._cut = saved["cut"]
        self._loss.load_state_dict(saved["loss"])
