"""The handle a training loop holds: it pulls, updates, holds and cuts.

loss.backward()
pruning.add_gradients_()        # Λ + ρ(W − Z), fused, outside autograd
optimizer.step(); optimizer.zero_grad()
pruning.step(loss)              # counts; every ``cadence`` steps: conditions, Z, Λ, s
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from espalier._ground.types import Weights
from espalier.errors import NonFiniteError, RequestError
from espalier.methods._certificate import Certificate, LayerUpdate, Update, certify
from espalier.methods._holding import hold_
from espalier.solvers import Conditions, Solver, State
from espalier.solvers._algebra import difference, norms, penalty_terms
from espalier.solvers._storage import Stored


class Target(Protocol):
    """Where the weights shall go: a ``Plan``, a ``Quantisation``, or both at once."""

    @property
    def names(self) -> tuple[str, ...]:
        """The constrained parameters, in the model's order."""
        ...

    @property
    def density(self) -> float:
        """Fraction of their weights that may stay."""
        ...

    @property
    def held(self) -> Mapping[str, Tensor]:
        """Masks of the zeros that are held from the beginning; by parameter name."""
        ...

    def check(self, model: nn.Module) -> None:
        """Raise unless the model has the parameters."""
        ...

    def support(
        self, weights: Weights, metrics: Weights | None = None, slack: float = 0.0
    ) -> dict[str, Tensor]:
        """Boolean masks of the nearest point, opened by the slack."""
        ...

    def project(
        self, weights: Weights, metrics: Weights | None = None, slack: float = 0.0
    ) -> dict[str, Tensor]:
        """The nearest point, opened by the slack."""
        ...

    def implied(self, masks: Weights, parameters: Weights) -> dict[str, Tensor]:
        """Masks of what the zeros of the nearest point make irrelevant in all parameters."""
        ...

    def contains(self, weights: Weights) -> bool:
        """Whether a cut would change nothing."""
        ...


@dataclass(frozen=True)
class _Constraint:
    """The plan at one update: :class:`espalier.solvers.Constraint`."""

    plan: Target
    diagonal: Mapping[str, Tensor] | None
    metric: Mapping[str, Tensor] | None
    slack: float
    moved: bool

    def project(self, w: Weights) -> dict[str, Tensor]:
        return self.plan.project(w, self.diagonal, self.slack)

    def support(self, w: Weights) -> dict[str, Tensor]:
        return self.plan.support(w, self.diagonal, self.slack)


class Pruning:
    """Prune ``model`` onto ``plan`` by ``solver``, from inside any training loop.

    Args:
        model: The model being trained; its parameters are looked up by name at every step.
        plan: Which set and keep each parameter has; or a :class:`~espalier.methods.Quantisation`.
        solver: ``SLR``, ``ADMM``, ``Penalty``, ``Gradual`` or ``OneShot``.
        optimizer: Needed by the metric ``AdamMoment`` and by ``decoupled`` solvers, which read its
            moments and learning rates.
        steps: Planned optimiser steps of the run. The continuation of the budget and the settling phase
            are fractions of it; without it the plan's own budget holds from the first update and
            nothing settles.
        probe: f for surrogate condition (3), called at every update; e.g. the loss of one fixed batch.
            Without it f is the mean training loss of the interval, which costs nothing.
    """

    def __init__(
        self,
        model: nn.Module,
        plan: Target,
        solver: Solver,
        optimizer: torch.optim.Optimizer | None = None,
        steps: int | None = None,
        probe: Callable[[], float] | None = None,
    ) -> None:
        if solver.decoupled and optimizer is None:
            raise RequestError(
                "a decoupled pull is scaled by the learning rate but no optimizer was given; "
                "write Pruning(model, plan, solver, optimizer=optimizer)"
            )
        if steps is not None and steps < 1:
            raise RequestError(
                f"steps={steps}; give the planned optimiser steps, at least 1, or None"
            )
        plan.check(model)
        self.model, self.plan, self.solver = model, plan, solver
        self.steps, self._probe, self._optimizer = steps, probe, optimizer
        self.updates: list[Update] = []
        self._count = 0
        self._slack = self._slack_at(0)
        self._settled = False
        self._loss_sum: Tensor | float = 0.0
        self._loss_count = 0
        self._gauge = solver.metric.gauge(model, plan.names, optimizer)
        state = solver.init(self._weights(), self._constraint())
        self._stored = Stored.of(replace(state, held=dict(plan.held)))

    @property
    def masks(self) -> dict[str, Tensor]:
        """Of the zeros that are held, by parameter name; empty until some are."""
        return self._stored.held

    # ---- what a training loop calls -------------------------------------------------------------

    @torch.no_grad()
    def add_gradients_(self) -> None:
        """Add the pull Λ + ρ(W − Z) to the gradients of the constrained weights; after ``backward``.

        Raises:
            RequestError: A constrained parameter has no gradient.
        """
        parameters = self._parameters()
        if self._settled:
            return
        gradients = {name: _gradient(name, p) for name, p in parameters.items()}
        self._gauge.observe(gradients)
        if self._stored.offset and not self.solver.decoupled:
            grads, rho = (
                list(gradients.values()),
                self._stored.scalars.pull_scale * self._stored.scalars.rho,
            )
            torch._foreach_add_(grads, [self._stored.offset[n] for n in parameters])
            torch._foreach_add_(grads, [p.detach() for p in parameters.values()], alpha=rho)

    @torch.no_grad()
    def step(self, loss: Tensor | float) -> None:
        """Count one optimiser step; update the solver when the cadence says so; after ``optimizer.step``.

        Args:
            loss: The training loss of this step, a scalar; it stays on its device until an update.

        Raises:
            NonFiniteError: The loss of the interval is NaN or infinite.
        """
        self._count += 1
        self._loss_sum = self._loss_sum + (
            loss.detach().double() if isinstance(loss, Tensor) else loss
        )
        self._loss_count += 1
        if self._stored.offset and self.solver.decoupled:
            self._pull_decoupled_()
        if self._count % self.solver.cadence == 0 and not self._settled:
            if self._settling():
                self._settle_()
            else:
                self._update()
        self._hold_()

    @contextmanager
    def hard_pruned(self) -> Iterator[None]:
        """The model as if cut now; the weights come back, bit for bit, on exit."""
        parameters = dict(self.model.named_parameters())
        masks = self._masks_of_cut()
        saved = {name: parameters[name].detach().clone() for name in masks}
        try:
            self._write_(self._projected())
            hold_(parameters, masks)
            yield
        finally:
            self._write_(saved)

    @torch.no_grad()
    def hard_prune_(self) -> None:
        """W ← Π_S(W) for good; from here on the zeros are held and nothing pulls."""
        masks = self._masks_of_cut()
        self._write_(self._projected())
        self._hold_from_now_(masks)

    @torch.no_grad()
    def penalty(self) -> float:
        """⟨Λ, W − Z⟩ + ρ/2 ‖W − Z‖² now; for logging, it is in no gradient."""
        state = self._stored.state()
        return penalty_terms(state.multiplier, difference(self._weights(), state.z), state.rho)

    def certificate(self, tolerance: float = 1e-2) -> Certificate:
        """Per layer how near the weights are to their sets, and the verdict."""
        held = self.plan.contains(self._weights())
        return certify(self.updates, held=held, tolerance=tolerance)

    # ---- one update -----------------------------------------------------------------------------

    def _update(self) -> None:
        slack = self._slack_at(self._count)
        constraint = self._constraint(slack, moved=slack != self._slack)
        self._slack = slack
        w, old, loss = self._weights(), self._stored.state(), self._interval_loss()
        if not math.isfinite(loss):
            raise NonFiniteError(
                f"the training loss is {loss} at step {self._count}; lower the learning rate or rho"
            )
        state, conditions = self.solver.update(w, old, constraint, loss)
        self.updates.append(self._record(w, old, state, conditions, loss))
        self._stored = Stored.of(state)

    def _record(
        self, w: Weights, old: State, new: State, conditions: Conditions, loss: float
    ) -> Update:
        z = new.z or self._constraint().project(
            w
        )  # some solvers keep none; a cut would take the rest
        nothing = dict.fromkeys(w, 0.0)
        size = norms(w)
        violation = norms(difference(w, z)) or nothing
        z_change = norms(difference(new.z, old.z)) or nothing
        change = norms(difference(new.multiplier, old.multiplier)) or nothing
        layers = {
            n: LayerUpdate(
                weight=size[n],
                violation=violation[n],
                z_change=z_change[n],
                multiplier_change=change[n],
            )
            for n in w
        }
        return Update(
            step=self._count, k=new.k, slack=self._slack, rho=new.rho, s=new.step, loss=loss,
            condition_3=conditions.first, condition_8=conditions.second, layers=layers,
        )  # fmt: skip

    def _settling(self) -> bool:
        settle = self.solver.settle
        if settle is None or self.steps is None or self._count < settle * self.steps:
            return False
        return self._slack_at(self._count) == 0.0  # never before the budget has closed

    def _settle_(self) -> None:
        self._hold_from_now_(self._masks_of_cut())

    def _hold_from_now_(self, masks: dict[str, Tensor]) -> None:
        self._settled = True
        self._gauge.close()
        self._stored = Stored.of(State(held=masks))
        self._hold_()

    def _hold_(self) -> None:
        if self.masks:
            hold_(dict(self.model.named_parameters()), self.masks)

    def _pull_decoupled_(self) -> None:
        """W ← argmin ⟨Λ, W − Z⟩ + ρ/2 ‖W − Z‖² + ‖W − W_now‖²/(2 lr): the pull as one implicit step.

        Implicit, so that no product lr · ρ overshoots Z.
        """
        assert self._optimizer is not None
        rate = {id(p): g["lr"] for g in self._optimizer.param_groups for p in g["params"]}
        for name, parameter in self._parameters().items():
            lr = float(rate[id(parameter)])
            parameter.add_(self._stored.offset[name], alpha=-lr).div_(
                1.0 + lr * self._stored.scalars.rho
            )

    # ---- what it looks at -----------------------------------------------------------------------

    def _parameters(self) -> dict[str, nn.Parameter]:
        return {name: self.model.get_parameter(name) for name in self.plan.names}

    def _weights(self) -> dict[str, Tensor]:
        """W, detached; in float32 at least, so that small multiplier steps are not lost."""
        return {
            name: p.detach().float() if p.dtype in (torch.float16, torch.bfloat16) else p.detach()
            for name, p in self._parameters().items()
        }

    def _constraint(self, slack: float | None = None, moved: bool = False) -> _Constraint:
        diagonal = self._gauge.diagonal(self._parameters())
        return _Constraint(
            plan=self.plan,
            diagonal=diagonal,
            metric=diagonal if self.solver.decoupled else None,
            slack=self._slack if slack is None else slack,
            moved=moved,
        )

    def _projected(self) -> dict[str, Tensor]:
        """Π_S(W) at the plan's own budget; of the weights that are held, once there are such."""
        weights = self._weights()
        if self._settled:
            weights = {n: torch.where(self.masks[n], w, 0) for n, w in weights.items()}
        return self._constraint(slack=0.0).project(weights)

    def _masks_of_cut(self) -> dict[str, Tensor]:
        """Masks of Π_S(W), and of what its zeros make irrelevant."""
        if self._settled:
            return self.masks
        masks = self._constraint(slack=0.0).support(self._weights())
        return masks | self.plan.implied(masks, dict(self.model.named_parameters()))

    @torch.no_grad()
    def _write_(self, values: Weights) -> None:
        parameters = dict(self.model.named_parameters())
        for name, value in values.items():
            parameters[name].copy_(value)

    def _slack_at(self, count: int) -> float:
        if self.steps is None:
            return 0.0
        return self.solver.continuation.slack(min(1.0, count / self.steps), self.plan.density)

    def _interval_loss(self) -> float:
        mean = float(self._loss_sum) / max(1, self._loss_count)
        self._loss_sum, self._loss_count = 0.0, 0
        return mean if self._probe is None or not math.isfinite(mean) else self._probe()

    # ---- what it keeps --------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything, as nested dicts of tensors and JSON scalars: resume is exact to the bit."""
        return {
            "solver": type(self.solver).__name__,
            "count": self._count,
            "slack": self._slack,
            "settled": self._settled,
            "loss_sum": float(self._loss_sum),
            "loss_count": self._loss_count,
            **self._stored.state_dict(),
            "gauge": self._gauge.state_dict(),
            "updates": [update.event() for update in self.updates],
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``, into a handle made with the same model, plan and solver.

        Raises:
            RequestError: The state is another solver's.
        """
        if saved["solver"] != type(self.solver).__name__:
            raise RequestError(
                f"a state of {saved['solver']} cannot go on as {type(self.solver).__name__}; "
                "resume with the solver the run began with"
            )
        self._count, self._slack = saved["count"], saved["slack"]
        self._settled = saved["settled"]
        self._loss_sum, self._loss_count = saved["loss_sum"], saved["loss_count"]
        self._stored = Stored.from_state_dict(saved)
        self._gauge.load_state_dict(saved["gauge"])
        self.updates = [Update.from_event(event) for event in saved["updates"]]


def _gradient(name: str, parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        raise RequestError(
            f"{name}: no gradient to add the pull to; call loss.backward() first, and do not freeze it"
        )
    return parameter.grad
