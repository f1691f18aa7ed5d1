"""Masked training: what earlier stages hold stays held, and the rest trains on."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from espalier._ground.sharding import parameters_of
from espalier._ground.types import Masks
from espalier.methods._handle import Handle
from espalier.methods._method import Cut, Method, Setting
from espalier.sets import Constraint
from espalier.solvers import Approach


@dataclass(frozen=True, kw_only=True)
class KeepZeros(Method):
    """Train with the zeros of earlier stages held: retraining after a cut, the rounds of a lottery ticket."""

    name = "keep_zeros"
    title = "Masked training"
    sentence = "Trains on with the zeros of earlier stages held"

    def attach(self, model: nn.Module, constraint: Constraint, setting: Setting) -> "Keeping":
        """A :class:`Keeping` handle with the stage's optimiser."""
        return Keeping(model, constraint, setting.held, setting.optimizer(model.parameters()))


class Keeping(Handle):
    """Holds zeros through any optimiser; a cut takes what the constraint still asks for.

    Args:
        model: The model being trained.
        constraint: What its weights shall be at the end.
        held: Masks by parameter name: False stays zero.
        optimizer: Whatever trains it.
    """

    approach = Approach(
        sentence="The zeros of earlier stages were held from the first step on, and what the constraint still "
        "asked for was cut."
    )
    needs_whole = None

    def __init__(
        self,
        model: nn.Module,
        constraint: Constraint,
        held: Masks,
        optimizer: Optimizer | None = None,
    ) -> None:
        super().__init__(model, constraint, optimizer)
        self._held = dict(held)
        self._hold_()

    @torch.no_grad()
    def target(self) -> Cut:
        """Π_S of the weights that are held; they are zero elsewhere, and zeros go first."""
        weights: dict[str, Tensor] = {n: p.detach() for n, p in self._tensors.now().items()}
        masks = self.constraint.support(weights)
        masks |= self.constraint.implied(masks, parameters_of(self.model))
        both = {n: mask & self._held[n] if n in self._held else mask for n, mask in masks.items()}
        return Cut(values=self.constraint.project(weights), free={**self._held, **both})
