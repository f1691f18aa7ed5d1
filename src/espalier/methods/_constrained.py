"""Constrained training: a solver pulls or holds, the budget opens and closes, the weights settle.

loss.backward()
pruning.add_gradients_()        # Λ + ρ(W − Z), fused, outside autograd
optimizer.step(); optimizer.zero_grad()
pruning.step(loss)              # counts; every ``cadence`` steps: conditions, Z, Λ, s
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn
from torch.optim import Optimizer

from espalier._ground.types import Masks, Weights
from espalier.errors import RequestError
from espalier.methods._evidence import MeanLoss, evidence
from espalier.methods._method import Cut, Handle, Method, Setting
from espalier.metrics import Identity, Metric
from espalier.sets import Constraint
from espalier.solvers import SLR, Cubic, Observed, Pulling, Schedule, Solver, State
from espalier.solvers._algebra import difference, penalty_terms
from espalier.solvers._storage import Stored


class Own(Enum):
    """Says that a setting is the solver's own."""

    DEFAULT = "the solver's own"


OWN = Own.DEFAULT


@dataclass(frozen=True, kw_only=True)
class Constrained(Method):
    """A solver takes the weights onto the constraint while they train.

    Args:
        solver: ``SLR``, ``ADMM``, ``Penalty``, ``Gradual``, ``OneShot``, ``RigL`` …: the paper's dynamics.
        cadence: Optimiser steps between two updates; the strongest knob there is.
        opening: How the budget closes from dense to its target over the run.
        settle: Fraction of the run after which, once the budget has closed, W is projected and its zeros
            are held; ``None``: never.
        metric: The norm in which Π_S is the nearest point.
        decoupled: Pull W beside the optimiser's step, by lr · (Λ + ρ(W − Z)), as AdamW decouples weight
            decay, instead of through the gradient. The pull, the multiplier (kept as H⁻¹Λ) and the
            conditions are then all meant in the metric.

    ``opening`` and ``settle`` left out are the solver's own defaults, or else ``Cubic()`` and 0.45. They and
    the cadence are the best of ``docs/results.md``; the papers' own are once per epoch, ``Constant()``, ``None``.

    Raises:
        RequestError: A number outside its range.
    """

    name = "constrained"
    title = "Constrained training"
    sentence = "A solver takes the weights onto the constraint while they train"

    solver: Solver = field(default_factory=SLR)
    cadence: Annotated[int, Ge(1)] = 20
    opening: Schedule | None = None
    settle: Annotated[float, Ge(0), Le(1)] | Own | None = OWN
    metric: Metric = field(default_factory=Identity)
    decoupled: bool = False

    def __post_init__(self) -> None:
        own = self.solver.defaults
        if self.opening is None:
            object.__setattr__(self, "opening", own.get("opening", Cubic()))
        if self.settle is OWN:
            object.__setattr__(self, "settle", own.get("settle", 0.45))
        super().__post_init__()

    @property
    def label(self) -> str:
        """The solver's title."""
        return self.solver.title

    def attach(self, model: nn.Module, constraint: Constraint, setting: Setting) -> "Pruning":
        """A :class:`Pruning` handle with the stage's optimiser."""
        return Pruning(
            model, constraint, self, setting.optimizer(model.parameters()), setting.steps,
            setting.probe, held=setting.held,
        )  # fmt: skip


@dataclass(frozen=True)
class _At:
    """The constraint at one update: :class:`espalier.solvers.Projector`."""

    constraint: Constraint
    diagonal: Weights | None
    metric: Weights | None
    moved: bool

    def project(self, w: Weights) -> dict[str, Tensor]:
        return self.constraint.project(w, self.diagonal)

    def support(self, w: Weights) -> dict[str, Tensor]:
        return self.constraint.support(w, self.diagonal)


class Pruning(Handle):
    """Prune ``model`` onto ``plan``, from inside any training loop.

    Args:
        model: The model being trained; its parameters are looked up by name at every step.
        plan: Which set and keep each parameter has; or any other :class:`~espalier.sets.Constraint`.
        method: A solver, ``SLR()``, ``ADMM()`` …, or a :class:`Constrained` with all its settings.
        optimizer: Needed by the metric ``AdamMoment`` and by a decoupled pull, which read its moments
            and learning rates.
        steps: Planned optimiser steps of the run. The opening of the budget and the settling phase
            are fractions of it; without it the plan's own budget holds from the first update and
            nothing settles.
        probe: f for surrogate condition (3), called at every update; e.g. the loss of one fixed batch.
            Without it f is the mean training loss of the interval, which costs nothing.
        held: Masks of zeros that are held from the beginning, besides the constraint's own.
        settings: Those of :class:`Constrained`, beside a solver: ``cadence=10, settle=None`` …

    Example:
        >>> from espalier.planning import plan
        >>> model = nn.Linear(8, 4)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> pruning = Pruning(model, plan(model, density=0.25), SLR(), optimizer, steps=10, cadence=2)
        >>> for _ in range(10):
        ...     loss = model(torch.ones(1, 8)).square().sum()
        ...     loss.backward()
        ...     pruning.add_gradients_()
        ...     optimizer.step(); optimizer.zero_grad()
        ...     pruning.step(loss)
        >>> int(model.weight.count_nonzero())
        8
    """

    def __init__(
        self,
        model: nn.Module,
        plan: Constraint,
        method: Solver | Constrained,
        optimizer: Optimizer | None = None,
        steps: int | None = None,
        probe: Callable[[], float] | None = None,
        *,
        held: Masks | None = None,
        **settings: Any,
    ) -> None:
        if isinstance(method, Solver):
            method = Constrained(solver=method, **settings)
        elif settings:
            method = replace(method, **settings)
        if method.decoupled and optimizer is None:
            raise RequestError(
                "a decoupled pull is scaled by the learning rate but no optimizer was given; "
                "write Pruning(model, plan, solver, optimizer=optimizer)"
            )
        if steps is not None and steps < 1:
            raise RequestError(
                f"steps={steps}; give the planned optimiser steps, at least 1, or None"
            )
        super().__init__(model, plan, optimizer)
        self.method, self.solver, self.steps, self._probe = method, method.solver, steps, probe
        self._count = 0
        self._slack = self._slack_at(0)
        self._settled = False
        self._loss = MeanLoss()
        self._gradients: dict[str, Tensor] = {}
        self._gauge = method.metric.gauge(model, plan.names, optimizer)
        state = self.solver.init(self._weights(), self._at(self._slack))
        self._always: Masks = {**(held or {}), **plan.held}  # zeros that no update may free
        self._held = self._within(state.held)
        self._stored = Stored.of(replace(state, held={}))

    @property
    def plan(self) -> Constraint:
        """The constraint, by the name that most users know it under."""
        return self.constraint

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
        if self.solver.sees_gradients and (self._count + 1) % self.method.cadence == 0:
            # The loop may zero them before the update of this step, and a pull would be added below.
            # What earlier stages hold at zero has no gradient to show: nothing may grow there.
            self._gradients = {
                name: g.detach() * self._always[name]
                if name in self._always
                else g.detach().clone()
                for name, g in gradients.items()
            }
        if self._stored.offset and not self.method.decoupled:
            grads = list(gradients.values())
            torch._foreach_add_(grads, [self._stored.offset[n] for n in parameters])
            torch._foreach_add_(
                grads, [p.detach() for p in parameters.values()], alpha=self._stored.pull
            )

    @torch.no_grad()
    def step(self, loss: Tensor | float) -> None:
        """Count one optimiser step; update the solver when the cadence says so; after ``optimizer.step``.

        Args:
            loss: The training loss of this step, a scalar; it stays on its device until an update.

        Raises:
            NonFiniteError: The loss of the interval is NaN or infinite.
        """
        self._count += 1
        self._loss.add(loss)
        if self._stored.offset and self.method.decoupled:
            self._pull_decoupled_()
        if self._count % self.method.cadence == 0 and not self._settled:
            if self._settling():
                self._hold_from_now_(self.target())
            else:
                self._update()
        self._hold_()

    @torch.no_grad()
    def target(self) -> Cut:
        """Π_S(W) at the plan's own budget; of the weights that are held, once they have settled."""
        weights, at = self._weights(), self._at(0.0)
        if self._settled:  # a constraint of levels still moves what survived
            held = {n: torch.where(self._held[n], w, 0) for n, w in weights.items()}
            return Cut(values=at.project(held), free=self._held)
        masks = at.support(weights)
        implied = self.constraint.implied(masks, dict(self.model.named_parameters()))
        free = self._still_held(masks | implied)
        # A tensor may lose slices to units of others too: what nothing reads goes with the cut.
        cut = {n: torch.where(free[n], z, 0) for n, z in at.project(weights).items()}
        return Cut(values=cut, free=free)

    @torch.no_grad()
    def penalty(self) -> float:
        """⟨Λ, W − Z⟩ + ρ/2 ‖W − Z‖² now; for logging, it is in no gradient."""
        state = self._stored.state()
        if not isinstance(state, Pulling):
            return 0.0
        return penalty_terms(state.multiplier, difference(self._weights(), state.z), state.rho)

    def close(self) -> None:
        """Take the metric's hooks off the model."""
        self._gauge.close()

    # ---- one update -----------------------------------------------------------------------------

    def _update(self) -> None:
        slack = self._slack_at(self._count)
        at = self._at(slack, moved=slack != self._slack)
        self._slack = slack
        w, old, loss = self._weights(), self._stored.state(), self._f()
        progress = 0.0 if self.steps is None else self._count / self.steps
        seen = Observed(loss=loss, gradients=self._gradients, progress=progress)
        state, conditions = self.solver.update(w, replace(old, held=dict(self._held)), at, seen)
        self._gradients = {}
        self.updates.append(
            evidence(w, old, state, conditions, at, step=self._count, slack=slack, loss=loss)
        )
        self._held = self._within(state.held)
        self._stored = Stored.of(replace(state, held={}))

    def _settling(self) -> bool:
        settle = self.method.settle
        if not isinstance(settle, float | int) or self.steps is None:
            return False
        if self._count < settle * self.steps:
            return False
        return self._slack_at(self._count) == 0.0  # never before the budget has closed

    def _hold_from_now_(self, cut: Cut) -> None:
        super()._hold_from_now_(cut)
        self._settled = True
        self._stored = Stored.of(State())

    def _pull_decoupled_(self) -> None:
        """W ← argmin ⟨Λ, W − Z⟩ + ρ/2 ‖W − Z‖² + ‖W − W_now‖²/(2 lr): the pull as one implicit step.

        Implicit, so that no product lr · ρ overshoots Z.
        """
        assert self.optimizer is not None
        rate = {id(p): g["lr"] for g in self.optimizer.param_groups for p in g["params"]}
        for name, parameter in self._parameters().items():
            lr = float(rate[id(parameter)])
            parameter.add_(self._stored.offset[name], alpha=-lr).div_(1.0 + lr * self._stored.pull)

    # ---- what it looks at -----------------------------------------------------------------------

    def _parameters(self) -> dict[str, nn.Parameter]:
        return {name: self.model.get_parameter(name) for name in self.constraint.names}

    def _weights(self) -> dict[str, Tensor]:
        """W, detached; in float32 at least, so that small multiplier steps are not lost."""
        return {
            name: p.detach().float() if p.dtype in (torch.float16, torch.bfloat16) else p.detach()
            for name, p in self._parameters().items()
        }

    def _at(self, slack: float, moved: bool = False) -> _At:
        diagonal = self._gauge.diagonal(self._parameters())
        return _At(
            constraint=self.constraint.opened(slack),
            diagonal=diagonal,
            metric=diagonal if self.method.decoupled else None,
            moved=moved,
        )

    def _slack_at(self, count: int) -> float:
        if self.steps is None:
            return 0.0
        assert self.method.opening is not None
        return self.method.opening.slack(min(1.0, count / self.steps), self.constraint.density)

    def _f(self) -> float:
        """The interval's mean loss; or the probe's, which is only asked where the mean is finite."""
        advice = "lower the learning rate or rho"
        mean = self._loss.take(self._count, advice)
        if self._probe is None:
            return mean
        probed = MeanLoss()
        probed.add(self._probe())
        return probed.take(self._count, advice)

    def _within(self, held: Masks) -> dict[str, Tensor]:
        """A solver's masks, without what was zero before it began."""
        return {**self._always, **self._still_held(held)}

    def _still_held(self, masks: Masks) -> dict[str, Tensor]:
        """Masks that free nothing of what was zero before the method began."""
        always = self._always
        return {n: mask & always[n] if n in always else mask for n, mask in masks.items()}

    # ---- what it keeps --------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything, as nested dicts of tensors and JSON scalars: resume is exact to the bit."""
        return {
            **super().state_dict(),
            "solver": type(self.solver).__name__,
            "count": self._count,
            "slack": self._slack,
            "settled": self._settled,
            "loss": self._loss.state_dict(),
            "stored": self._stored.state_dict(),
            "gradients": dict(self._gradients),
            "gauge": self._gauge.state_dict(),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``, into a handle made with the same model, plan and solver.

        Raises:
            RequestError: The state is another solver's.
        """
        if saved.get("solver") != type(self.solver).__name__:
            raise RequestError(
                f"a state of {saved.get('solver')} cannot go on as {type(self.solver).__name__}; "
                "resume with the solver the run began with"
            )
        super().load_state_dict(saved)
        self._count, self._slack = saved["count"], saved["slack"]
        self._settled = saved["settled"]
        self._loss.load_state_dict(saved["loss"])
        kind = State if self._settled else self.solver.state
        self._stored = Stored.from_state_dict(saved["stored"], kind)
        self._gradients = dict(saved["gradients"])
        self._gauge.load_state_dict(saved["gauge"])
        if self._settled:
            self.close()


def _gradient(name: str, parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        raise RequestError(
            f"{name}: no gradient to add the pull to; call loss.backward() first, and do not freeze it"
        )
    return parameter.grad
