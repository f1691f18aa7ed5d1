"""A callback of the Trainer of ``transformers``, and of all that are made from it."""

import os
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from espalier._ground.tree import load_tree, save_tree
from espalier.errors import CheckpointError, RequestError
from espalier.integrations._session import Session

STATE = "espalier.safetensors"


class TrainerPruning(Session, TrainerCallback):
    """Prune while a :class:`transformers.Trainer`, or any trainer made from it, trains.

    The pull comes after accumulation, unscaling and clipping. The state lies in every checkpoint folder, as
    ``espalier.safetensors``, and ``train(resume_from_checkpoint=…)`` goes on from it to the same weights. The callback
    does not see the loss: surrogate condition (3) is asked of ``probe=``, or not asked, and the certificate says so.

    With ``load_best_model_at_end`` only models that are on the plan may be the best: what was better while the weights
    still moved towards it is forgotten.

    Args:
        resume_from: The checkpoint folder, where it lies elsewhere than in the trainer's ``output_dir``.
        arguments: Those of the handle: plan, method and settings, ``probe``, ``cut``, ``goal``, ``on_event``.

    Example:
        >>> import espalier as esp
        >>> from torch import nn
        >>> model = nn.Linear(8, 4)
        >>> callback = TrainerPruning(esp.plan(model, density=0.25), esp.SLR(), cadence=10)
        >>> callback.pruning is None     # until trainer.train() begins
        True
    """

    def __init__(
        self, *arguments: Any, resume_from: str | os.PathLike[str] | None = None, **settings: Any
    ) -> None:
        super().__init__(*arguments, **settings)
        self._resume_from = resume_from

    def on_train_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """Make the handle; on resume, as it was.

        Raises:
            CheckpointError: Training goes on from a checkpoint that has no state, or that of other weights.
            RequestError: The best model would be one from before the cut.
        """
        saved = None
        if state.global_step:
            saved = _read(self._resume_from or _folder(args, state))
        steps = state.max_steps if state.max_steps > 0 else None
        pruning = self._begin_(parts["model"], [parts["optimizer"]], steps, saved)
        arrives = pruning.approach.goes_along or pruning.method.settles_at(
            steps or 1, steps, pruning.constraint.density
        )
        if args.load_best_model_at_end and not arrives:
            pruning.detach()
            raise RequestError(
                "load_best_model_at_end would bring back weights from before the cut: with these settings they are "
                "cut at the end only; give a settle=, or leave load_best_model_at_end out"
            )

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Forget what was best before the weights were on the plan."""
        self._forget_(args, state)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Tell of the update, if there was one."""
        self._tell()

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any
    ) -> None:
        """Tell the certificate."""
        self._evaluated(metrics or {})

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write the state into the folder that the trainer has just written."""
        if args.should_save:
            save_tree(_folder(args, state) / STATE, self._state())
        self._forget_(args, state)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Cut, and take the hooks off; where the trainer brought back its best model, that one's state comes too."""
        if args.load_best_model_at_end and state.best_model_checkpoint is not None:
            self._restore_(_read(state.best_model_checkpoint))
        self._end_()

    def _forget_(self, args: Any, state: Any) -> None:
        if (
            args.load_best_model_at_end
            and state.best_metric is not None
            and not self.handle().nothing_to_cut()
        ):
            state.best_metric = state.best_global_step = state.best_model_checkpoint = None


def _folder(args: Any, state: Any) -> Path:
    return Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"


def _read(folder: str | os.PathLike[str]) -> Any:
    path = Path(folder) / STATE
    if not path.exists():
        raise CheckpointError(
            f"{path.parent} has no {STATE}: it was written without this callback, or cut off while it was being "
            "written; resume from an earlier checkpoint, or, if it lies elsewhere, give resume_from="
        )
    return load_tree(path)
