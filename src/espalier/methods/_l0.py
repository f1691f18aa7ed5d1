r"""L0 regularisation by hard concrete gates, with a fixed price or with a budget that is met exactly.

Legend: gate :math:`z_u` of unit u (a weight, a filter, or a channel through several tensors) of
:math:`|u|` weights; :math:`P_u = P(z_u \ne 0)`; budget b is over :math:`n_b` units (of cost 1, unless
the budget says otherwise) of which the fraction :math:`d_b` may stay; :math:`\lambda` prices.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn

from espalier._ground.types import Masks
from espalier.methods._evidence import record
from espalier.methods._gates import Gated, units_of
from espalier.methods._handle import Handle
from espalier.methods._hard_concrete import HardConcrete, location
from espalier.methods._method import Cut, Method, Setting
from espalier.methods._update import Update
from espalier.sets import Constraint
from espalier.solvers import Approach

RECORD_EVERY = 20
"""Steps between two entries of evidence."""


@dataclass(frozen=True, kw_only=True)
class L0(Method):
    r"""Louizos, Welling & Kingma 2018: every unit has a random gate, and open gates cost.

    .. math:: \min_{W, \alpha} \; E_z f(W \odot z) + \lambda \frac{\sum_u |u| P_u}{\sum_u |u|}
              \quad\text{or}\quad \max_{\lambda \ge 0} \min_{W, \alpha} \; E_z f(W \odot z)
              + \sum_b \lambda_b \Bigl(\frac{1}{n_b} \sum_{u \in b} P_u - d_b\Bigr)

    The first with ``penalty``: λ decides the density and the budget of the constraint is not used. The
    second without: the density is the constraint's own (Gallego-Posada et al. 2022, arXiv 2208.04425), and
    the cut is its projection of the gated weights. Units are weights under ``Unstructured``, filters under
    ``Filters``, channels in a plan whose filters are coupled.

    Args:
        penalty: λ, the price of the whole model kept; the paper's λ times weights / training examples.
            ``None``: a dual variable for every budget.
        dual_lr: Step of the dual ascent.
        restarts: Whether a dual variable starts again from 0 as soon as its budget is met.
        droprate: σ(log α) = 1 − droprate at the start. The papers' 0.3 to 0.5 is for training from random
            weights; a trained model needs its gates nearly open or it begins as noise.
        lr: Learning rate of the gates over that of the weights.
        bound: |log α| <= bound after every step.
        beta: β, temperature of the hard concrete distribution.
        gamma: γ < 0, to which it is stretched below.
        zeta: ζ > 1, to which it is stretched above.

    Raises:
        RequestError: A number outside its range.
    """

    name = "l0"
    title = "L0 hard concrete"
    sentence = "Random gates are trained with the weights, and open gates cost"

    penalty: Annotated[float, Ge(0)] | None = None
    dual_lr: Annotated[float, Gt(0)] = 0.3
    restarts: bool = True
    droprate: Annotated[float, Gt(0), Lt(1)] = 0.1
    lr: Annotated[float, Gt(0)] = 10.0
    bound: Annotated[float, Gt(0)] = 10.0
    beta: Annotated[float, Gt(0)] = 2 / 3
    gamma: Annotated[float, Lt(0)] = -0.1
    zeta: Annotated[float, Gt(1)] = 1.1

    @property
    def gate(self) -> HardConcrete:
        """The distribution of a gate."""
        return HardConcrete(beta=self.beta, gamma=self.gamma, zeta=self.zeta)

    def attach(self, model: nn.Module, constraint: Constraint, setting: Setting) -> "Gating":
        """A :class:`Gating` handle; the optimiser moves the model's parameters and the gates."""
        return Gating(model, constraint, self, setting)


class Gating(Handle):
    """L0 at work on a model. Gates are drawn from torch's global generator, once per forward pass."""

    needs_whole = "l0 multiplies"
    approach = Approach(
        sentence="The gates had closed in training what the cut took, measured on the weights times their gates.",
        remedy="raise dual_lr or the gates' lr, or train longer",
    )

    def __init__(
        self, model: nn.Module, constraint: Constraint, method: L0, setting: Setting
    ) -> None:
        super().__init__(model, constraint)
        parameters = self._tensors.now()
        self.method, self._cut = method, False
        self._always: Masks = {**setting.held, **constraint.held}
        units = units_of(constraint, next(iter(parameters.values())).device)
        ones = {n: self._always.get(n, torch.ones_like(p) > 0) for n, p in parameters.items()}
        live = units.counts(ones)
        if method.penalty is not None:  # one price for all: the units by their weights
            units = units.as_one(live)
        noise = torch.randn(len(live), generator=torch.Generator().manual_seed(setting.seed))
        start = (location(method.droprate) + 0.01 * noise).to(live.device)
        start = start.where(live > 0, -method.bound)  # what earlier stages hold at zero is closed
        self._units, self._gate = units, method.gate
        self._duals = torch.full((len(units.sizes),), method.penalty or 0.0, device=live.device)
        self._gated = Gated(model, units, self._gate, start)
        self._held = self._always
        # Decay would pull log α to 0, a gate that is open with probability 0.83.
        gates = {"params": [self.log_alpha], "lr": setting.lr * method.lr, "weight_decay": 0.0}
        groups: list[dict[str, Any]] = [{"params": list(model.parameters())}, gates]
        self.optimizer = setting.optimizer(groups)

    @property
    def log_alpha(self) -> nn.Parameter:
        """Log α of all gates."""
        return self._gated.log_alpha

    @property
    def duals(self) -> Tensor:
        """λ of every budget; with a penalty, that one."""
        return self._duals

    @torch.no_grad()
    def shares(self) -> Tensor:
        """E‖z‖₀ of every budget, as a fraction; with a penalty, of all weights."""
        return self._units.shares(self._gate.probability(self.log_alpha))

    def trained(self) -> nn.Module:
        """The gated model; after the cut the model itself."""
        return self.model if self._cut else self._gated

    @torch.no_grad()
    def add_gradients_(self) -> None:
        """∂/∂log α of Σ λ_b · E‖z‖₀ / n_b, in closed form."""
        if self._cut:
            return
        self._refuse_inside("add_gradients_()")
        pull = self._units.prices(self._duals) * self._gate.slope(self.log_alpha)
        grad = self.log_alpha.grad
        if grad is not None:
            self._pull.adding(grad)
        self.log_alpha.grad = pull if grad is None else grad.add_(pull)
        self._pull.added(self.log_alpha.grad, self.optimizer)

    def _owes_pull(self) -> bool:
        return not self._cut

    @torch.no_grad()
    def _after_step_(self, loss: Tensor | float | None) -> None:
        """Clamp the gates, take a step of dual ascent."""
        if not self._cut:
            self.log_alpha.clamp_(-self.method.bound, self.method.bound)
            if self.method.penalty is None:
                excess = self.shares() - self._units.limits
                self._duals.add_(excess, alpha=self.method.dual_lr).clamp_(min=0)
                if self.method.restarts:
                    self._duals.masked_fill_(excess <= 0, 0.0)
            if self._count % RECORD_EVERY == 0:
                self.updates.append(self._record(None if loss is None else float(loss)))

    @torch.no_grad()
    def target(self) -> Cut:
        """With budgets the projection of W ⊙ ẑ; with a penalty W ⊙ ẑ, whatever its density."""
        if self._cut:
            return Cut(values={}, free=self._held)
        z = self._gate.test_time(self.log_alpha)
        values = self._gated.gated(z)
        if self.method.penalty is None:
            # Where fewer gates are open than may be, the likeliest of the closed ones stay, at zero.
            likely = z + 1e-4 * self._gate.probability(self.log_alpha)
            masks = self.constraint.support(self._gated.gated(likely))
        else:
            spread = self._units.spread(z)
            masks = {n: spread[n].ne(0).expand_as(w).contiguous() for n, w in values.items()}
        free = masks | self.constraint.implied(masks, dict(self.model.named_parameters()))
        free |= {n: m & free[n] if n in free else m for n, m in self._always.items()}
        return Cut(values={n: torch.where(free[n], w, 0) for n, w in values.items()}, free=free)

    def nothing_to_cut(self) -> bool:
        """Only after the cut: until then the gates are not in the weights."""
        return self._cut

    def _hold_from_now_(self, cut: Cut) -> None:
        super()._hold_from_now_(cut)
        self._cut = True

    @torch.no_grad()
    def _effective(self) -> dict[str, Tensor]:
        if self._cut:
            return super()._effective()
        return self._gated.gated(self._gate.test_time(self.log_alpha))

    def _record(self, loss: float | None) -> Update:
        """``violation``: what a cut would take of W ⊙ ẑ; slack: the worst budget's; rho: its λ."""
        w, z = self._effective(), self.target().values
        excess = self.shares() - self._units.limits
        return record(
            w, z, step=self._count, k=self._count // RECORD_EVERY, loss=loss,
            slack=max(0.0, float(excess.max())), rho=float(self._duals.max()), s=self.method.dual_lr,
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Everything, with log α and the dual variables; the noise is torch's global generator's."""
        return {
            **super().state_dict(), "log_alpha": self.log_alpha.detach().clone(),
            "duals": self._duals.clone(), "cut": self._cut,
        }  # fmt: skip

    @torch.no_grad()
    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``, into a handle made with the same arguments."""
        super().load_state_dict(saved)
        self.log_alpha.copy_(saved["log_alpha"])
        self._duals.copy_(saved["duals"])
        self._cut = saved["cut"]
