"""What the callbacks of all trainers share: one attached handle from the first step of a training to its last."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from espalier._ground.events import OnEvent
from espalier._ground.wrapping import unwrapped, unwrapped_optimizer
from espalier.errors import CheckpointError, RequestError
from espalier.methods import Constrained, Pruning
from espalier.sets import Constraint
from espalier.solvers import Solver
from espalier.solvers._algebra import norms
from espalier.tasks import Goal

LossOf = Callable[[], Any]


class Session:
    """Makes a :class:`~espalier.Pruning`, attaches it, keeps and restores its state, and cuts at the end.

    Args:
        plan: Which set and keep each parameter has, under the names that the trained model gives them; made before
            the trainer, on every start in the same way.
        method: A solver, ``SLR()``, ``ADMM()`` …, or a :class:`~espalier.Constrained` with all its settings.
        probe: f for surrogate condition (3), called at every update.
        cut: Whether to cut at the end of training what has not settled by then.
        goal: The metric that the trainer's evaluations report under this name, for the certificate.
        on_event: Called with the record of every update, as :func:`~espalier.integrations.to_logger` makes it.
        settings: Those of :class:`~espalier.Constrained`, beside a solver: ``cadence=10, settle=0.6`` …

    Attributes:
        pruning: The handle, from the beginning of training on.
    """

    def __init__(
        self,
        plan: Constraint,
        method: Solver | Constrained,
        *,
        probe: Callable[[], float] | None = None,
        cut: bool = True,
        goal: Goal | None = None,
        on_event: OnEvent | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        self.pruning: Pruning | None = None
        self._plan, self._method, self._settings = plan, method, settings
        self._probe, self._cut, self._goal, self._on_event = probe, cut, goal, on_event
        self._told = 0

    def handle(self) -> Pruning:
        """The handle.

        Raises:
            RequestError: Training has not begun.
        """
        if self.pruning is None:
            raise RequestError("there is no handle before training begins; ask for it then")
        return self.pruning

    def _begin_(
        self,
        model: nn.Module,
        optimizers: Iterable[Optimizer],
        steps: int | None,
        saved: Mapping[str, Any] | None = None,
        loss: LossOf | None = None,
    ) -> Pruning:
        """Make the handle and attach it; ``saved``: where it goes on from."""
        if self.pruning is not None:  # of a training before this one
            self.pruning.detach()
        moving = [unwrapped_optimizer(one) for one in optimizers]
        named = dict(unwrapped(model).named_parameters())
        wanted = {id(named[name]) for name in self._plan.names if name in named}
        one = next((o for o in moving if wanted <= _moved(o)), None)
        pruning = self.pruning = Pruning(
            model, self._plan, self._method, one, steps, self._probe, **self._settings
        )
        if saved is not None:
            self._restore_(saved)
        pruning.attach(*([one] if one is not None else moving), loss=loss)
        self._told = len(pruning.updates)
        return pruning

    def _restore_(self, saved: Mapping[str, Any]) -> None:
        """Put back a state, beside the weights that it was saved beside.

        Raises:
            CheckpointError: The trainer has read others, or none; with the name of one.
        """
        pruning = self.handle()
        for name, now in _norms(pruning).items():
            then = saved["norms"].get(name, math.nan)
            if not math.isclose(now, then, rel_tol=1e-4, abs_tol=1e-30):
                raise CheckpointError(
                    f"{name} is not as it was when the pruning state was saved: the trainer has read other weights, "
                    "or, where it warned of missing keys, has not read them; resume from the checkpoint that has both, "
                    "with the plan that the run began with"
                )
        pruning.load_state_dict(saved["pruning"])

    def _state(self) -> dict[str, Any]:
        """Of the handle, as nested dicts of tensors and JSON scalars; empty before training."""
        if self.pruning is None:
            return {}
        return {"norms": _norms(self.pruning), "pruning": self.pruning.state_dict()}

    def _tell(self) -> None:
        """Hand over the updates that were made since the last call."""
        if self.pruning is not None and self._on_event is not None:
            for update in self.pruning.updates[self._told :]:
                self._on_event(update.event())
            self._told = len(self.pruning.updates)

    def _evaluated(self, metrics: Mapping[str, Any]) -> None:
        if self.pruning is not None and self._goal is not None and self._goal.name in metrics:
            self.pruning.evaluated(float(metrics[self._goal.name]), self._goal)

    def _end_(self) -> None:
        """Cut, and take the hooks off."""
        pruning = self.handle()
        self._tell()
        if self._cut and not pruning.nothing_to_cut():
            pruning.hard_prune_()
        pruning.detach()


def _moved(optimizer: Optimizer) -> set[int]:
    return {id(p) for group in optimizer.param_groups for p in group["params"]}


def _norms(pruning: Pruning) -> dict[str, float]:
    return norms({n: pruning.model.get_parameter(n).detach() for n in pruning.constraint.names})
