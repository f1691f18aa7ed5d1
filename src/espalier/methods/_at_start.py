r"""Cut first, then train: the zeros are chosen once, before the first step, and held ever after.

Legend (paper → here): w the weights at the start, D the first ``batches`` of the task, g = ∇L(w; D)
``gradient``, H the Hessian of L there, never formed.

    SNIP    s = |g ⊙ w|      how much the loss changes with a connection's strength
    GraSP   s = w ⊙ H g      how much of ‖g‖², the loss's speed of falling, goes with a weight
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.optim import Optimizer

from espalier._ground.traces import kept_buffers, random_state, set_random_state
from espalier._ground.types import Masks, Weights
from espalier.errors import RequestError
from espalier.methods._keeping import Keeping
from espalier.methods._method import Method, Setting
from espalier.metrics import ranking
from espalier.sets import Constraint
from espalier.solvers import Approach
from espalier.tasks import Task


class HeldFromStart(Keeping):
    """Zeros that were forced upon the weights before the first step, and are held; the certificate says so.

    Args:
        model: The model; its weights are cut now.
        constraint: What its weights shall be at the end.
        held: Masks by parameter name: False stays zero.
        optimizer: Whatever trains it.
    """

    approach = Approach(
        sentence="The zeros were chosen before the first step and held from then on; nothing led the weights there."
    )

    def __init__(
        self,
        model: nn.Module,
        constraint: Constraint,
        held: Masks,
        optimizer: Optimizer | None = None,
    ) -> None:
        w = {name: model.get_parameter(name).detach().clone() for name in constraint.names}
        super().__init__(model, constraint, held, optimizer)
        self._force(w, {n: x.where(held[n], 0) if n in held else x for n, x in w.items()})


@dataclass(frozen=True, kw_only=True)
class HoldFromStart(Method):
    """What the constraint holds is zero from the first step on: a cut, and then training."""

    name = "hold_from_start"
    title = "Masked training"
    sentence = "Cuts to what the constraint holds, and trains on with the zeros held"

    def attach(self, model: nn.Module, constraint: Constraint, setting: Setting) -> HeldFromStart:
        """A :class:`HeldFromStart` handle with the stage's optimiser."""
        held = {**setting.held, **constraint.held}
        return HeldFromStart(model, constraint, held, setting.optimizer(model.parameters()))


@dataclass(frozen=True, kw_only=True)
class CutFirst(Method, ABC):
    """A score of the weights at the start decides which stay; the rest is zero from the first step on."""

    @abstractmethod
    def scores(self, model: nn.Module, names: Sequence[str], task: Task) -> Weights:
        """By parameter name a real number for every weight: the largest stay; shape of the weight."""

    def attach(self, model: nn.Module, constraint: Constraint, setting: Setting) -> HeldFromStart:
        """Score, cut, and hold; the random state and all buffers are then as before.

        Raises:
            RequestError: No task to take batches from, or a model that cannot be scored.
        """
        if setting.task is None:
            raise RequestError(
                f"{self.title} scores the weights on batches of the task, and there is none; run it as a "
                "stage, or attach it with Setting(task=…)"
            )
        constraint.check(model)
        parameters = dict(model.named_parameters())
        w = {name: parameters[name].detach() for name in constraint.names}
        device = next(iter(w.values())).device
        before, training = random_state(device), model.training
        model.train()
        try:
            with kept_buffers(model):
                scores = self.scores(model, constraint.names, setting.task)
        finally:
            model.train(training)
            set_random_state(before, device)
        # What earlier stages hold is zero already, and nothing ranks below a zero.
        masks = constraint.support(w, ranking(scores, w))
        masks |= constraint.implied(masks, parameters)
        held = {n: m & setting.held[n] if n in setting.held else m for n, m in masks.items()}
        optimizer = setting.optimizer(model.parameters())
        return HeldFromStart(model, constraint, {**setting.held, **held}, optimizer)


@dataclass(frozen=True, kw_only=True)
class SNIP(CutFirst):
    r"""Single-shot pruning by connection sensitivity, :math:`s = |g \odot w|`, before training.

    Units are ranked by the sum over their weights. The paper ranks all layers together:
    ``allocation: shared``.

    Args:
        batches: Of the task's first epoch, whose mean gradient is g; the paper has one.

    Source: Lee, Ajanthan & Torr, ICLR 2019 (arXiv:1810.02340), equations (5) and (6).
    """

    name = "snip"
    title = "SNIP"
    sentence = (
        "Cut before training: the weights stay whose strength the loss feels most (ICLR 2019)"
    )

    batches: Annotated[int, Ge(1)] = 1

    def scores(self, model: nn.Module, names: Sequence[str], task: Task) -> dict[str, Tensor]:
        """|g ⊙ w|; the paper divides by their sum, which changes no order."""
        parameters = [model.get_parameter(name) for name in names]
        g = mean_gradient(model, parameters, task, islice(task.batches(0), self.batches))
        return {n: (d * p.detach()).abs() for n, d, p in zip(names, g, parameters, strict=True)}


@dataclass(frozen=True, kw_only=True)
class GraSP(CutFirst):
    r"""Gradient signal preservation, :math:`s = w \odot H g`, before training.

    To first order, :math:`\|\nabla L\|^2` falls by :math:`2 w_i (H g)_i` if weight i goes. So the weights
    stay without which it would fall most, and those go without which it would rise.

    Args:
        batches: Of the task's first epoch, over which g and H are means.

    Source: Wang, Zhang & Grosse, ICLR 2020 (arXiv:2002.07376), equation (8) and Algorithm 2.
    """

    name = "grasp"
    title = "GraSP"
    sentence = "Cut before training: the weights stay that keep the gradient large (ICLR 2020)"

    batches: Annotated[int, Ge(1)] = 1

    def scores(self, model: nn.Module, names: Sequence[str], task: Task) -> dict[str, Tensor]:
        """W ⊙ Hg by two passes: g first, then the gradient of ⟨∇L, g⟩ with g held fixed.

        Raises:
            RequestError: An operation of the model has no second derivative.
        """
        parameters = [model.get_parameter(name) for name in names]
        batches = list(islice(task.batches(0), self.batches))
        g = mean_gradient(model, parameters, task, batches)
        curved = [torch.zeros_like(p) for p in parameters]
        for batch in batches:
            first = _gradient(task.loss(model, batch), parameters, graph=True)
            inner = torch.stack([(a * b).sum() for a, b in zip(first, g, strict=True)]).sum()
            try:
                # Not filled up with zeros: that would hide what cannot be differentiated twice.
                second = torch.autograd.grad(inner, parameters)
            except RuntimeError as error:
                raise RequestError(
                    f"grasp needs second derivatives, and an operation of this model has none: {error}; "
                    "choose snip, which needs the first alone"
                ) from error
            torch._foreach_add_(curved, second, alpha=1.0 / len(batches))
        return {n: p.detach() * h for n, p, h in zip(names, parameters, curved, strict=True)}


def mean_gradient(
    model: nn.Module, parameters: Sequence[nn.Parameter], task: Task, batches: Iterable[object]
) -> list[Tensor]:
    """The mean over batches of the gradient of the task's loss; a parameter it does not touch has zeros."""
    total, count = [torch.zeros_like(p) for p in parameters], 0
    for batch in batches:
        torch._foreach_add_(total, _gradient(task.loss(model, batch), parameters))
        count += 1
    torch._foreach_div_(total, max(1, count))
    return total


def _gradient(
    of: Tensor, parameters: Sequence[nn.Parameter], graph: bool = False
) -> tuple[Tensor, ...]:
    return torch.autograd.grad(of, parameters, create_graph=graph, materialize_grads=True)
