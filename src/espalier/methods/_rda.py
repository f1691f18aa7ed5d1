"""Regularised dual averaging as a method: sparsity is what λ gives, from the first step on."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from espalier._ground.types import Weights
from espalier.errors import RequestError
from espalier.methods._dual_averaging import RDA
from espalier.methods._evidence import MeanLoss, record
from espalier.methods._handle import Handle
from espalier.methods._holding import hold_
from espalier.methods._method import Cut, Method, Setting
from espalier.methods._update import Update
from espalier.sets import Constraint
from espalier.solvers import Approach

Stages = tuple[tuple[int, float], ...]
"""(first epoch, value) in rising order; the first epoch of all is 0."""


@dataclass(frozen=True, kw_only=True)
class DualAveraging(Method):
    r"""ℓ1-regularised training by dual averaging: :math:`w = -(\sqrt t/\gamma)\operatorname{soft}(\bar g, \lambda)`.

    It brings its own optimiser, :class:`~espalier.methods.RDA`; the rule of the stage and its learning-rate
    schedule are not used. The constraint's parameters are thresholded; all others (biases,
    BatchNorm, layers not planned) go by dual averaging around their first values, with λ = 0. How sparse
    the model becomes is λ's to say: the constraint's budget plays no part unless ``onto_plan``. The values
    of thresholded weights before it are forgotten in one step, so that pretraining is lost, unless ``start`` > 0.

    Args:
        l1: λ >= 0, in units of the gradient; one figure, or by stages ((0, 1e-4), (20, 5e-5)): from epoch 0, 20.
        gamma: γ > 0, or by stages; ``None``: 1/lr of the stage.
        scale: s of the initialisation U(−a, a), a = s √(3/k), for fan-in k: thresholded weights are drawn
            anew from the run's seed. ``None``: they stay. √2 is He's; with BatchNorm up to 100 is good.
        start: t_0: above 0 the weights at hand are not forgotten (as :class:`~espalier.methods.RDA`); not in the paper.
        he: False: a = s/√k instead, PyTorch's own at s = 1.
        keeps_weights: Let a stage that changes γ or λ begin with the weights as they are
            (:meth:`~espalier.methods.RDA.restage_`); the paper's own multiplies all by γ/γ'.
        retrain_from: The epoch at which adaptive sparse retraining begins: from there on a weight that is exactly
            zero, or becomes so, stays zero, and the others go on as before. ``None``: never.
        report_every: Steps between two updates, which only record evidence.
        onto_plan: Let the cut also project onto the plan's budget, for tables at equal density.

    Raises:
        RequestError: A number outside its range.

    Source: He, Jia, Xu, Zhang & Zhao, COAP 2020 (arXiv:1807.04222), Algorithm 2, §4.1 and Tables 9 and 10.
    """

    name = "rda"
    title = "Dual averaging (RDA)"
    sentence = "ℓ1 training that thresholds the mean of all gradients: zeros are exact and stay"

    l1: Annotated[float, Ge(0)] | Stages = 1e-4
    gamma: Annotated[float, Gt(0)] | Stages | None = None
    scale: Annotated[float, Gt(0)] | None = None
    he: bool = True
    start: Annotated[int, Ge(0)] = 0
    keeps_weights: bool = False
    retrain_from: Annotated[int, Ge(0)] | None = None
    report_every: Annotated[int, Ge(1)] = 50
    onto_plan: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("l1", 0.0), ("gamma", math.ulp(0.0))):
            if getattr(self, name) is None:
                continue
            stages = _stages(getattr(self, name))
            try:
                epochs = [epoch for epoch, _ in stages]
                fine = all(least <= value < math.inf for _, value in stages)
            except (TypeError, ValueError):  # no pairs of numbers
                epochs, fine = [], False
            if not fine or epochs != sorted(set(epochs)) or epochs[:1] != [0]:
                raise RequestError(
                    f"{name}={getattr(self, name)}; give a figure {'>= 0' if least == 0 else '> 0'}, or "
                    "stages (epoch, figure) in rising order from epoch 0"
                )

    def attach(self, model: nn.Module, constraint: Constraint, setting: Setting) -> "Averaging":
        """An :class:`Averaging` handle with its own optimiser."""
        return Averaging(model, constraint, self, setting)


def draw_(weight: Tensor, scale: float, generator: torch.Generator, *, he: bool = True) -> None:
    r"""Fill with U(−a, a), :math:`a = s\sqrt{3/k}`, or :math:`s/\sqrt k`; k = fan-in, the elements of an output.

    The paper's formula (29) is a function of s and k; of the two readings the first, whose variance is s²/k,
    fits its remark that He et al. choose s = √2.

    Args:
        weight: (outputs, …), changed in place; drawn on the CPU, so that every device has the same.
        scale: s.
        generator: On the CPU.
        he: Whether the factor √3 is in it.
    """
    bound = scale * math.sqrt((3.0 if he else 1.0) / weight[:1].numel())
    drawn = torch.rand(weight.shape, generator=generator, dtype=weight.dtype)
    with torch.no_grad():
        weight.copy_((2.0 * drawn - 1.0) * bound)


class Averaging(Handle):
    """RDA at work: counts steps, opens stages, holds what earlier stages hold, and keeps evidence."""

    takes_schedule = False  # a factor on lr would multiply the weights themselves, not their steps
    optimizer: RDA
    approach = Approach(
        sentence="Dual averaging thresholds the weights at every step; how many are zero is for lambda to say.",
        remedy="raise l1",
    )

    def __init__(
        self, model: nn.Module, constraint: Constraint, method: DualAveraging, setting: Setting
    ) -> None:
        constraint.check(model)
        self.method, self._epoch = method, setting.steps_per_epoch
        self._gamma = method.gamma or 1.0 / setting.lr
        staged = len(_stages(method.l1)) > 1 or len(_stages(self._gamma)) > 1
        if self._epoch is None and (staged or method.retrain_from):
            raise RequestError(
                "stages by epoch, but the steps of an epoch are not known; set steps_per_epoch "
                "of the setting, or give one figure"
            )
        named = {n: p for n, p in model.named_parameters() if p.requires_grad}
        chosen = [named[n] for n in constraint.names if n in named]
        others = [p for n, p in named.items() if n not in constraint.names]
        l1, gamma = _at(method.l1, 0), _at(self._gamma, 0)
        optimizer = RDA(
            [{"params": chosen, "l1": l1}, {"params": others, "centred": True}],
            gamma=gamma,
            start=method.start,
        )
        super().__init__(model, constraint, optimizer)
        if method.scale is not None:
            generator = torch.Generator().manual_seed(setting.seed)
            for parameter in chosen:
                draw_(parameter, method.scale, generator, he=method.he)
        self._held = {**setting.held, **constraint.held}
        hold_(dict(model.named_parameters()), self._held)
        self._loss = MeanLoss(world=self.world)

    @property
    def retraining(self) -> bool:
        """Whether what is zero now stays so: adaptive sparse retraining has begun."""
        begin = self.method.retrain_from
        return begin is not None and self._count >= begin * (self._epoch or 0)

    @torch.no_grad()
    def _after_step_(self, loss: Tensor | float | None) -> None:
        """Open the next stage; record evidence when it is due.

        Raises:
            NonFiniteError: The mean loss since the last record is NaN or infinite.
        """
        self._loss.add(loss)
        if self._epoch is not None:
            self._open_(self._count // self._epoch)
        if self._count % self.method.report_every == 0:
            self.updates.append(self._record())
        if self.retraining:  # monotone: what is held is zero, so that no mask ever opens again
            self._hold_()
            weights = {n: self.model.get_parameter(n) for n in self.constraint.names}
            self._held = {**self._held, **{n: w != 0 for n, w in weights.items()}}

    @torch.no_grad()
    def target(self) -> Cut:
        """W itself: its zeros are already zeros; with ``onto_plan`` Π_S(W). What is zero does not move on."""
        w = {n: self.model.get_parameter(n).detach() for n in self.constraint.names}
        values: Weights = self.constraint.project(w) if self.method.onto_plan else w
        masks = {n: v != 0 for n, v in values.items()}
        # A copy: a cut is written into the very tensors it was read from, and is kept beyond that.
        values = {n: v.clone() for n, v in values.items()}
        if not self.method.onto_plan:
            return Cut(values=values, free={**self._held, **masks})
        implied = self.constraint.implied(masks, dict(self.model.named_parameters()))
        return Cut(values=values, free={**self._held, **implied, **masks})

    def nothing_to_cut(self) -> bool:
        """True, for a cut takes zeros alone; with ``onto_plan``: whether W is within the budget."""
        return not self.method.onto_plan or super().nothing_to_cut()

    def _open_(self, epoch: int) -> None:
        thresholded, others = self.optimizer.param_groups
        l1, gamma = _at(self.method.l1, epoch), _at(self._gamma, epoch)
        if (thresholded["l1"], thresholded["gamma"]) == (l1, gamma):
            return
        if self.method.keeps_weights:
            self.optimizer.restage_(gamma=gamma, l1=l1)
        thresholded["l1"] = l1
        thresholded["gamma"] = others["gamma"] = gamma

    def _record(self) -> Update:
        loss = self._loss.take(self._count, "raise gamma, or lower scale")
        w = {n: self.model.get_parameter(n).detach() for n in self.constraint.names}
        z = self.constraint.project(w) if self.method.onto_plan else {}
        return record(w, z, step=self._count, k=len(self.updates) + 1, loss=loss)

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimiser's: resume is exact to the bit."""
        return {**super().state_dict(), "loss": self._loss.state_dict()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``, into a handle made with the same arguments."""
        super().load_state_dict(saved)
        self._loss.load_state_dict(saved["loss"])


def _stages(value: float | Stages | None) -> Stages:
    return () if value is None else ((0, value),) if isinstance(value, float | int) else value


def _at(value: float | Stages, epoch: int) -> float:
    return next(v for first, v in reversed(_stages(value)) if first <= epoch)
