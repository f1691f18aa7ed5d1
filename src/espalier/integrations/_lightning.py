"""A callback of Lightning's Trainer."""

from typing import Any

from torch import Tensor

from espalier.integrations._session import Session

try:
    from lightning.pytorch import Callback
except ImportError:  # the same library under its first name
    from pytorch_lightning import Callback


class LightningPruning(Session, Callback):
    """Prune while a Lightning ``Trainer`` trains.

    The pull comes after accumulation, unscaling and clipping, also where Lightning does all of that in the closure of
    the optimiser's step. The loss is the one that goes into ``backward``. The state lies in the ``.ckpt`` as plain
    tensors and JSON scalars, and ``fit(…, ckpt_path=…)`` goes on from it.

    Args:
        arguments: Those of the handle: plan, method and settings, ``probe``, ``cut``, ``goal``, ``on_event``.

    Example:
        >>> import espalier as esp
        >>> from torch import nn
        >>> model = nn.Linear(8, 4)      # a LightningModule
        >>> callback = LightningPruning(esp.plan(model, density=0.25), esp.SLR(), cadence=10)
        >>> callback.state_dict()        # until trainer.fit() begins
        {}
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._saved: dict[str, Any] | None = None
        self._loss: Tensor | None = None

    def state_dict(self) -> dict[str, Any]:
        """What the ``.ckpt`` keeps."""
        return self._state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Lightning reads the ``.ckpt`` before there is a handle."""
        self._saved = state_dict

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Make the handle; on resume, as it was."""
        steps = trainer.estimated_stepping_batches
        saved, self._saved, self._loss = self._saved, None, None
        self._begin_(
            pl_module,
            trainer.optimizers,
            int(steps) if steps < float("inf") else None,
            saved,
            loss=self._taken,
        )

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Tensor) -> None:
        """Of an accumulated batch every part is divided already: they are summed."""
        loss = loss.detach()
        self._loss = loss if self._loss is None else self._loss + loss

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any, **__: Any) -> None:
        """Tell of the update, if there was one."""
        self._tell()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Tell the certificate."""
        self._evaluated(trainer.callback_metrics)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Cut, and take the hooks off."""
        self._end_()

    def _taken(self) -> Tensor | None:
        loss, self._loss = self._loss, None
        return loss
