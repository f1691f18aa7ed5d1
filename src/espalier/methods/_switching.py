"""AutoPrune at work on a model: a step of the weights, a step of what switches them, and the cut."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from espalier._ground.types import Masks
from espalier.methods._certificate import Certificate
from espalier.methods._evidence import MeanLoss, record
from espalier.methods._gates import units_of
from espalier.methods._handle import Handle
from espalier.methods._method import Cut, Setting
from espalier.methods._recovery import Recovery, Returns
from espalier.methods._switched import HeldOut, Scale, Switched, first
from espalier.methods._update import Update
from espalier.sets import Constraint
from espalier.solvers import Approach

if TYPE_CHECKING:
    from espalier.methods._autoprune import AutoPrune

RECORD_EVERY = 20
"""Steps between two entries of evidence."""


class Switching(Handle):
    """AutoPrune at work on a model."""

    needs_whole = "autoprune switches"
    approach = Approach(
        sentence="The units that the cut took were off in training, measured on the weights that were on.",
        remedy="let the budget close earlier, or train longer",
    )

    def __init__(
        self, model: nn.Module, constraint: Constraint, method: "AutoPrune", setting: Setting
    ) -> None:
        super().__init__(model, constraint)
        parameters = self._tensors.now()
        self.method, self.steps = method, setting.steps
        part = method.held_out_of(setting.task)
        self._held_out = None if part is None else HeldOut(part, setting.autocast)
        self._loss = MeanLoss(world=self.world)
        self._cut = False
        self._always: Masks = {**setting.held, **constraint.held}
        units = units_of(constraint, next(iter(parameters.values())).device)
        live = {n: self._always.get(n, torch.ones_like(p) > 0) for n, p in parameters.items()}
        count = units.counts(live)
        self._dead = count == 0  # what earlier stages hold at zero stays off
        named = {n: model.get_parameter(n).detach().abs() for n in units.where}
        m = (
            first(units, named, method.start)
            if method.by_size
            else units.each(torch.full_like(units.limits, method.start))
        )
        self._units = units if method.penalty is None else units.as_one(count)
        self._prices = torch.full_like(self._units.limits, method.penalty or 0.0)
        self._switched = Switched(model, units, method.estimator, m.where(~self._dead, -1.0))
        self._returns = Returns(self.opened)
        self._before: dict[str, Tensor] = {}
        self._was_on: dict[str, Tensor] = {}
        self._held = self._always
        self._scale = Scale(self._units)
        # M is moved by the paper's rule, not by the stage's: Adam would move every m alike, whatever its G.
        self.optimizer = setting.optimizer([{"params": list(model.parameters())}])

    @property
    def m(self) -> nn.Parameter:
        """The auxiliary parameters of all units."""
        return self._switched.m

    @property
    def opened(self) -> Tensor:
        """Which units are on, bool."""
        return self.m.detach() > 0

    @property
    def prices(self) -> Tensor:
        """δ of every budget at the last step of M; with a penalty, μ."""
        return self._prices

    @property
    def recovery(self) -> Recovery:
        """What went and came back so far."""
        return self._returns.recovery()

    @torch.no_grad()
    def shares(self) -> Tensor:
        """Of every budget the fraction that is on; with a penalty, of all weights."""
        return self._units.shares(self.opened.to(self.m.dtype))

    # ---- what a training loop calls -------------------------------------------------------------

    def trained(self) -> nn.Module:
        """The switched model; once M is fixed the model itself."""
        return self.model if self._cut else self._switched

    @torch.no_grad()
    def add_gradients_(self) -> None:
        """Before the step of W: M waits for its own data, or, without such, keeps its part of the one pass."""
        if self._cut:
            return
        self._refuse_inside("add_gradients_()")
        first_of = next(p.grad for p in self.model.parameters() if p.grad is not None)
        self._pull.adding(first_of)
        self._pull.added(first_of, self.optimizer)
        if self._held_out is not None or (self._count + 1) % self.method.cadence:
            self.m.grad = None
        if not self.method.erodes:
            self._was_on = self._units.spread(self.opened.to(self.m.dtype))
            self._before = {
                n: self.model.get_parameter(n).detach().clone() for n in self._units.where
            }

    def _owes_pull(self) -> bool:
        return not self._cut

    def _after_step_(self, loss: Tensor | float | None) -> None:
        """After the step of W: one of M, of the prices, of the evidence; M is fixed when it is time."""
        if not self._cut:
            self._loss.add(loss)
            self._wait_()
            if self._count % self.method.cadence == 0:
                self._learn_()
            if self._count % RECORD_EVERY == 0:
                self.updates.append(self._record())
            if self._settling():
                self.hard_prune_()

    def _learn_(self) -> None:
        """One step of M on the next batch that was held out, and the price that it takes."""
        assert self.optimizer is not None
        pull = self.m.grad
        if self._held_out is not None:
            pull = self._held_out.gradient(self._switched, self.m)
        assert pull is not None  # of one pass: add_gradients_ has left it
        rate = self.method.lr * float(self.optimizer.param_groups[0]["lr"])
        with torch.no_grad():
            self.m.sub_(rate * self._scale(pull + self._price()))
            self.m.grad = None
            self.m.masked_fill_(self._dead, -1.0)
            if self.method.penalty is None:
                self._prices = self._units.threshold(self.m, self._limits())
                self.m.sub_(self._units.each(self._prices) * self.opened)
            self._returns.see(self.opened)

    @torch.no_grad()
    def _price(self) -> Tensor:
        """∂/∂m of μ Σ r_u h(m_u)."""
        if self.method.penalty is None:
            return torch.zeros_like(self.m)
        return self._units.prices(self._prices) * self.method.estimator.slope(self.m)

    @torch.no_grad()
    def _wait_(self) -> None:
        """Weights that are off are as they were before the optimiser's momentum and decay."""
        for name, before in self._before.items():
            p = self.model.get_parameter(name)
            p.copy_(torch.where(self._was_on[name] > 0, p, before))
        self._before = {}

    def _slack(self) -> float:
        if self.steps is None:
            return 0.0
        return self.method.opening.slack(
            min(1.0, self._count / self.steps), self.constraint.density
        )

    def _limits(self) -> Tensor:
        limits = self._units.limits
        return limits + self._slack() * (1 - limits)

    def _settling(self) -> bool:
        settle = self.method.settle
        if settle is None or self.steps is None or self._count < settle * self.steps:
            return False
        return self.method.penalty is not None or self._slack() == 0.0  # never before it has closed

    # ---- the cut --------------------------------------------------------------------------------

    @torch.no_grad()
    def target(self) -> Cut:
        """W ⊙ h(M); with budgets, on as many units as may stay, the largest m first."""
        if self._cut:
            return Cut(values={}, free=self._held)
        values, spread = self._switched.gated(), self._units.spread(self.m.detach())
        wide = {n: spread[n].expand_as(w) for n, w in values.items()}
        if self.method.penalty is None:
            # Where fewer are on than may be, the nearest to it of those that are off stay, at zero.
            least = self.m.detach().min()
            score = {n: each - least + 1 for n, each in wide.items()}
            score = {n: s * self._always[n] if n in self._always else s for n, s in score.items()}
            masks = self.constraint.support(score)
        else:
            masks = {n: (each > 0).contiguous() for n, each in wide.items()}
        free = masks | self.constraint.implied(masks, dict(self.model.named_parameters()))
        free |= {n: mask & free[n] if n in free else mask for n, mask in self._always.items()}
        return Cut(values={n: torch.where(free[n], w, 0) for n, w in values.items()}, free=free)

    def nothing_to_cut(self) -> bool:
        """Only once M is fixed: until then the switches are not in the weights."""
        return self._cut

    def certificate(self, tolerance: float = 1e-2) -> Certificate:
        """As of every method, and what came back."""
        found = super().certificate(tolerance)
        return replace(found, why=f"{found.why} {self.recovery}.".strip())

    def _hold_from_now_(self, cut: Cut) -> None:
        super()._hold_from_now_(cut)
        self._cut = True

    @torch.no_grad()
    def _effective(self) -> dict[str, Tensor]:
        return super()._effective() if self._cut else self._switched.gated()

    @torch.no_grad()
    def _record(self) -> Update:
        """``violation``: what a cut would take of W ⊙ h(M); slack: the worst budget's; rho: the highest price."""
        excess = self.shares() - self._units.limits
        loss = self._loss.take(self._count, "lower the learning rate")
        return record(
            self._effective(), self.target().values,
            step=self._count, k=self._count // RECORD_EVERY, loss=loss,
            slack=max(0.0, float(excess.max())), rho=float(self._prices.max()),
        )  # fmt: skip

    # ---- what it keeps --------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything, with M, the prices and what came back: resume is exact to the bit."""
        return {
            **super().state_dict(), "m": self.m.detach().clone(), "prices": self._prices.clone(),
            "cut": self._cut, "loss": self._loss.state_dict(),
            "held_out": 0 if self._held_out is None else self._held_out.taken,
            "returns": self._returns.state_dict(), "scale": self._scale.state_dict(),
        }  # fmt: skip

    @torch.no_grad()
    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``, into a handle made with the same arguments."""
        super().load_state_dict(saved)
        self.m.copy_(saved["m"])
        self._prices = saved["prices"].clone()
        self._cut = saved["cut"]
        self._loss.load_state_dict(saved["loss"])
        self._returns.load_state_dict(saved["returns"])
        self._scale.load_state_dict(saved["scale"])
        if self._held_out is not None:
            self._held_out.go_to(saved["held_out"])
