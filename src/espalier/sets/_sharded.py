"""Any constraint, on weights of which every rank holds a part."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from espalier._ground.sharding import Piece, like, local, pieces_of, placed
from espalier._ground.types import Masks, Weights
from espalier._ground.world import World, settled
from espalier.sets import _over_ranks as over_ranks
from espalier.sets._constraint import Constraint
from espalier.sets._inside_over_ranks import contains


@dataclass(frozen=True, kw_only=True)
class Sharded:
    """A constraint on ``DTensor`` weights, as FSDP2 has them; takes and gives ``DTensor``, placed as the weights.

    Nothing is gathered: unit energies are summed over the ranks where the parts cut through units, and the largest
    are found by counting (``_ground/selection.py``). All ranks call each method, in the same order.

    Args:
        inner: What the weights may be.
        parameters: All of the model's, by name.
        pieces: Which part of each this rank holds.
        world: The ranks that hold them together.
    """

    inner: Constraint
    parameters: Weights
    pieces: dict[str, Piece]
    world: World

    @classmethod
    def of(cls, inner: Constraint, parameters: Weights) -> "Sharded":
        """The constraint on a model with these parameters.

        Raises:
            RequestError: Parameters that are placed otherwise than FSDP2 does, or a set whose units the parts cut
                through; with the name.
        """
        pieces, world = pieces_of(parameters)
        made = cls(inner=inner, parameters=parameters, pieces=pieces, world=world)
        # What cannot be done is refused now, and not at the first update.
        made.support({n: torch.zeros_like(parameters[n]) for n in inner.names})
        return made

    @property
    def names(self) -> tuple[str, ...]:
        """The inner constraint's."""
        return self.inner.names

    @property
    def density(self) -> float:
        """The inner constraint's."""
        return self.inner.density

    @property
    def held(self) -> Masks:
        """The inner constraint's, placed as the weights."""
        return self.placed(self.inner.held)

    def placed(self, values: Weights) -> dict[str, Tensor]:
        """Tensors that every rank has whole, or in parts, placed as the weights of their names."""
        return placed(values, self.parameters)

    def check(self, model: nn.Module) -> None:
        """As the inner constraint."""
        self.inner.check(model)

    def opened(self, slack: float) -> "Sharded":
        """The inner constraint opened; itself at 0."""
        opened = self.inner.opened(slack)
        if opened is self.inner:
            return self
        return replace(self, inner=opened)

    def support(self, w: Weights, h: Weights | None = None) -> dict[str, Tensor]:
        """Boolean masks of Π_S(W), placed as the weights."""
        found = settled(self._support(w, h), self.world)
        return {name: like(mask, w[name]) for name, mask in found.items()}

    def project(self, w: Weights, h: Weights | None = None) -> dict[str, Tensor]:
        """Π_S(W), placed as the weights."""
        found = settled(self._support(w, h), self.world)
        parts = {
            name: torch.where(mask, local(w[name].detach()), 0) for name, mask in found.items()
        }
        return {name: like(part, w[name]) for name, part in parts.items()}

    def contains(self, w: Weights) -> bool:
        """Whether W ∈ S; the same answer on every rank."""
        return settled(contains(self.inner, self._parts(w), self.pieces), self.world)

    def implied(self, masks: Masks, parameters: Weights) -> dict[str, Tensor]:
        """Masks of what zeros make irrelevant, placed as the parameters."""
        shapes = {name: tuple(p.shape) for name, p in parameters.items()}
        own = {name: local(mask) for name, mask in masks.items()}
        found = settled(over_ranks.implied(self.inner, own, shapes, self.pieces), self.world)
        return {name: like(mask, parameters[name]) for name, mask in found.items()}

    def _support(self, w: Weights, h: Weights | None) -> Any:
        metric = {name: self.pieces[name].part(x) for name, x in (h or {}).items()}
        return over_ranks.support(self.inner, self._parts(w), metric, self.pieces)

    def _parts(self, w: Weights) -> dict[str, Tensor]:
        return {name: local(w[name].detach()) for name in self.names}
