"""The handle of constrained training: what a loop calls, and one update."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from espalier._ground.sharding import count, distributed, local, parameters_of
from espalier._ground.tree import onto
from espalier._ground.types import Masks, Weights
from espalier._ground.world import World
from espalier._ground.wrapping import unwrapped, unwrapped_optimizer
from espalier.errors import AdviceWarning, RequestError, shown
from espalier.methods._alike import CHECKED_EVERY, check_alike
from espalier.methods._constrained import Constrained
from espalier.methods._evidence import MeanLoss, evidence
from espalier.methods._handle import Handle
from espalier.methods._method import Cut
from espalier.methods._repricing import check_priced, repriced
from espalier.methods._states import check_tensors
from espalier.sets import Constraint, Sharded
from espalier.sets._priced import priced, with_priced
from espalier.solvers import Approach, Observed, Pulling, Solver, State
from espalier.solvers._algebra import difference, penalty_terms
from espalier.solvers._storage import Stored


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
            Without it f is the mean training loss of the interval, which costs nothing; and where no step
            was told its loss, the condition is not asked.
        held: Masks of zeros that are held from the beginning, besides the constraint's own.
        world: The ranks that decide together, each with its part of every batch; by default all of the default
            process group of ``torch.distributed``, else this process alone.
        advise: Whether to warn (``AdviceWarning``) of settings that will probably disappoint.
        settings: Those of :class:`Constrained`, beside a solver: ``cadence=10, settle=None`` …

    With a gradient scaler, ``unscale_`` comes before ``add_gradients_``. Where it does not, the handle finds it
    at the first step, if it was given the optimiser and the scale is a power of two, as the scaler's own are.

    Example:
        >>> from espalier.planning import plan
        >>> from espalier.solvers import SLR
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
        world: World | None = None,
        advise: bool = True,
        **settings: Any,
    ) -> None:
        model = unwrapped(model)  # as the plan was: its names are those of the model itself
        optimizer = unwrapped_optimizer(optimizer)
        if isinstance(method, Solver):
            method = Constrained(solver=method, **settings)
        elif not isinstance(method, Constrained) or isinstance(method.solver, type):
            raise RequestError(
                f"method={shown(method)}; give a solver, such as SLR(), or a Constrained"
            )
        elif settings:
            method = replace(method, **settings)
        if method.decoupled and optimizer is None:
            raise RequestError(
                "a decoupled pull is scaled by the learning rate but no optimizer was given; "
                "write Pruning(model, plan, solver, optimizer=optimizer)"
            )
        if steps is not None and (type(steps) is not int or steps < 1):
            raise RequestError(
                f"steps={steps}; give the planned optimiser steps, at least 1, or None"
            )
        super().__init__(model, plan, optimizer, world)
        plan = self.constraint
        self.method, self.solver, self.steps, self._probe = method, method.solver, steps, probe
        check_priced(plan, method.solver)
        self._budget: Constraint = plan  # as its parts stand, where they move
        self._slack = self._slack_at(0)
        self._settled = False
        self._loss = MeanLoss(world=self.world)
        self._gradients: dict[str, Tensor] = {}
        self._gauge = method.metric.gauge(model, plan.names, optimizer)
        state = self.solver.init(self._weights(), self._at(self._slack))
        self._always: Masks = {**(held or {}), **plan.held}  # zeros that no update may free
        self._held = self._within(state.held)
        self._stored = Stored.of(replace(state, held={}))
        if state.held:  # what is held from the first step on is taken there
            w = self._weights()
            self._force(w, {n: torch.where(self._held[n], w[n], 0) for n in state.held})
        self.advice = method.advice(steps) if advise else ()
        for text in self.advice:
            warnings.warn(text, AdviceWarning, stacklevel=2)

    needs_whole = None

    @property
    def approach(self) -> Approach:
        """The solver's."""
        return self.solver.approach

    @property
    def plan(self) -> Constraint:
        """The constraint, by the name that most users know it under."""
        return self.constraint

    # ---- what a training loop calls -------------------------------------------------------------

    @torch.no_grad()
    def add_gradients_(self) -> None:
        """Add the pull Λ + ρ(W − Z) to the gradients of the constrained weights; after ``backward``.

        Raises:
            RequestError: A constrained parameter has no gradient, or was replaced; the pull was added to these
                gradients before, or to scaled ones.
        """
        self._add_gradients_to_(self.constraint.names)

    @torch.no_grad()
    def _add_gradients_to_(self, names: Sequence[str]) -> None:
        self._refuse_inside("add_gradients_()")
        every = self._parameters()
        if self._settled:
            return
        parameters = {name: every[name] for name in names}
        gradients = {name: _gradient(name, p) for name, p in parameters.items()}
        self._pull.adding(next(iter(gradients.values())))
        self._gauge.observe(gradients)
        if self.solver.sees_gradients and (self._count + 1) % self.method.cadence == 0:
            # The loop may zero them before the update of this step, and a pull would be added below.
            # What earlier stages hold at zero has no gradient to show: nothing may grow there.
            self._gradients |= {
                name: g.detach() * self._always[name]
                if name in self._always
                else g.detach().clone()
                for name, g in gradients.items()
            }
        if self._stored.offset and not self.method.decoupled:
            # Gradients of shards are means over the ranks already: the pull is whole, and not divided.
            grads = [local(g) for g in gradients.values()]
            torch._foreach_add_(grads, [local(self._stored.offset[n]) for n in parameters])
            weights = [local(p.detach()) for p in parameters.values()]
            torch._foreach_add_(grads, weights, alpha=self._stored.pull)
        if self._owes_pull():
            self._pull.added(next(iter(gradients.values())), self.optimizer)

    def _owes_pull(self) -> bool:
        if self._settled:
            return False
        pulls = bool(self._stored.offset) and not self.method.decoupled
        return pulls or self._gauge.sees_gradients or self.solver.sees_gradients

    @torch.no_grad()
    def step(self, loss: Tensor | float | None = None) -> None:
        """Count one optimiser step; update the solver when the cadence says so; after ``optimizer.step``.

        Args:
            loss: The training loss of this step, a scalar; it stays on its device until an update. ``None``:
                not known; where that is so for a whole interval, and there is no ``probe``, surrogate
                condition (3) is not asked at its update, and the certificate says so.

        Raises:
            NonFiniteError: The loss of the interval is NaN or infinite.
            RequestError: :meth:`add_gradients_` was not called; a parameter was replaced; inside :meth:`hard_pruned`.
        """
        super().step(loss)

    def _after_step_(self, loss: Tensor | float | None) -> None:
        self._loss.add(loss)
        if self._stored.offset and self.method.decoupled:
            self._pull_decoupled_()
        if self._count % self.method.cadence == 0 and not self._settled:
            if self._settling():
                self._hold_from_now_(self.target())
            else:
                self._update()

    @torch.no_grad()
    def target(self) -> Cut:
        """Π_S(W) at the plan's own budget; of the weights that are held, once they have settled."""
        weights, at = self._weights(), self._at(0.0)
        if self._settled:  # a constraint of levels still moves what survived
            held = {n: torch.where(self._held[n], w, 0) for n, w in weights.items()}
            return Cut(values=at.project(held), free=self._held)
        masks = at.support(weights)
        implied = self.constraint.implied(masks, parameters_of(self.model))
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
        w, old, loss = self._weights(), self._stored.state(), self._f()
        budget = self._budget
        self._budget = repriced(budget, w, old, self._diagonal(), self.method.decoupled)
        at = self._at(slack, moved=slack != self._slack or self._budget is not budget)
        self._slack = slack
        if any(count(~g.isfinite()) for g in self._gradients.values()):
            return  # a gradient scaler leaves out such a step, and its update goes with it
        progress = 0.0 if self.steps is None else self._count / self.steps
        seen = Observed(loss=loss, gradients=self._gradients, progress=progress)
        state, conditions = self.solver.update(w, replace(old, held=dict(self._held)), at, seen)
        self._gradients = {}
        self.updates.append(
            evidence(
                w,
                old,
                state,
                conditions,
                at,
                step=self._count,
                slack=slack,
                loss=loss,
                takes=self.approach.goes_along,
            )
        )
        self._held = self._within(state.held)
        self._stored = Stored.of(replace(state, held={}))
        if len(self.updates) % CHECKED_EVERY == 0:
            check_alike(self.world, self._alike(w), self._count)

    def _alike(self, w: Weights) -> dict[str, Any]:
        """What ranks that train copies of one model must hold alike, by what a message calls it."""
        stored = self._stored
        tensors = (
            ("weights of", w), ("masks of", self._held), ("multipliers of", stored.offset),
            ("Z of", {n: packed.values for n, packed in stored.z.items()} if stored.offset else {}),
        )  # fmt: skip
        parted = {n for n, x in w.items() if distributed(x)}
        named = {
            f"{what} {n}": x for what, own in tensors for n, x in own.items() if n not in parted
        }
        return {"steps": self._count, "solver's numbers": stored.scalars, **named}

    def _settling(self) -> bool:
        return self.method.settles_at(self._count, self.steps, self.constraint.density)

    def _hold_from_now_(self, cut: Cut) -> None:
        super()._hold_from_now_(cut)
        self._settled = True
        self._stored = Stored.of(State())

    def _pull_decoupled_(self) -> None:
        """W ← argmin ⟨Λ, W − Z⟩ + ρ/2 ‖W − Z‖² + ‖W − W_now‖²/(2 lr): the pull as one implicit step.

        Implicit, so that no product lr · ρ overshoots Z.
        """
        assert self.optimizer is not None  # and it holds all of them: Handle
        rate = {id(p): g["lr"] for g in self.optimizer.param_groups for p in g["params"]}
        for name, parameter in self._parameters().items():
            lr = float(rate[id(parameter)])
            parameter.add_(self._stored.offset[name], alpha=-lr).div_(1.0 + lr * self._stored.pull)

    # ---- what it looks at -----------------------------------------------------------------------

    def _parameters(self) -> dict[str, nn.Parameter]:
        return self._tensors.now()

    def _weights(self) -> dict[str, Tensor]:
        """W, detached; in float32 at least, so that small multiplier steps are not lost."""
        return {
            name: p.detach().float() if p.dtype in (torch.float16, torch.bfloat16) else p.detach()
            for name, p in self._parameters().items()
        }

    def _at(self, slack: float, moved: bool = False) -> _At:
        diagonal = self._diagonal()
        return _At(
            constraint=self._budget.opened(slack),
            diagonal=diagonal,
            metric=diagonal if self.method.decoupled else None,
            moved=moved,
        )

    def _diagonal(self) -> Weights | None:
        """H as all ranks have measured it, placed as the weights."""
        self._gauge.share_(self.world)
        diagonal = self._gauge.diagonal(self._parameters())
        if diagonal is None or not isinstance(self.constraint, Sharded):
            return diagonal
        return self.constraint.placed(diagonal)

    def _slack_at(self, count: int) -> float:
        return self.method.slack(count, self.steps, self.constraint.density)

    def _f(self) -> float | None:
        """The interval's mean loss, if known; or the probe's, which is only asked where the mean is finite."""
        advice = "lower the learning rate or rho"
        mean = self._loss.take(self._count, advice)
        if self._probe is None:
            return mean
        probed = MeanLoss(world=self.world)
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
            "slack": self._slack,
            "settled": self._settled,
            "loss": self._loss.state_dict(),
            "stored": self._stored.state_dict(),
            "gradients": dict(self._gradients),
            "parts": {} if (part := priced(self._budget)) is None else dict(part.parts),
            "gauge": self._gauge.state_dict(),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``, into a handle made with the same model, plan and solver.

        Raises:
            RequestError: The state is another solver's, another model's, or none; nothing was changed.
        """
        saved = onto(saved, next(self.model.parameters()).device)  # a trainer may read it anywhere
        super().load_state_dict(saved)
        self._slack = saved["slack"]
        self._settled = saved["settled"]
        self._loss.load_state_dict(saved["loss"])
        kind = State if self._settled else self.solver.state
        self._stored = Stored.from_state_dict(saved["stored"], kind)
        self._gradients = dict(saved["gradients"])
        part = priced(self.constraint)
        if part is not None:
            self._budget = with_priced(self.constraint, replace(part, parts=dict(saved["parts"])))
        self._gauge.load_state_dict(saved["gauge"])
        if self._settled:
            self.close()

    def _check_state(self, saved: Mapping[str, Any]) -> None:
        super()._check_state(saved)
        if saved["solver"] != type(self.solver).__name__:
            raise RequestError(
                f"a state of {saved['solver']} cannot go on as {type(self.solver).__name__}; "
                "resume with the solver the run began with"
            )
        parameters = self._parameters()
        part = priced(self.constraint)
        if part is not None and saved.get("parts", {}).keys() != part.parts.keys():
            raise RequestError(
                "the state has other parts of the budget; give that of this very plan"
            )
        MeanLoss().load_state_dict(saved["loss"])
        stored = saved["stored"]
        shapes = {
            n: z["dense"] if "dense" in z else torch.empty(z["shape"], device="meta")
            for n, z in stored["z"].items()
        }
        for what, tensors in (
            ("Λ", stored["offset"]),
            ("Z", shapes),
            ("gradients", saved["gradients"]),
        ):
            check_tensors(what, tensors, parameters)
        pulled = set(parameters) if issubclass(self.solver.state, Pulling) else set()
        if not saved["settled"] and set(stored["offset"]) != pulled:
            raise RequestError(
                f"the state has multipliers of {', '.join(stored['offset']) or 'nothing'}, and the plan "
                f"constrains {', '.join(parameters)}; give the state of this very plan"
            )


def _gradient(name: str, parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        raise RequestError(
            f"{name}: no gradient to add the pull to; call loss.backward() first, and do not freeze it"
        )
    return parameter.grad
