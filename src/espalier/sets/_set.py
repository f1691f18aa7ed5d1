"""What a set is.

Legend: ``w`` the weights W, ``z`` the nearest point of the set Z, ``h`` the diagonal of the metric H,
so that the projection is  Π_S(W) = argmin_{Z ∈ S} Σ hᵢ (zᵢ − wᵢ)²  and H = I when no metric is given.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from espalier._types import Keep
from espalier.errors import BudgetError, NonFiniteError
from espalier.sets._select import largest


@dataclass(frozen=True)
class Set(ABC):
    """A shape of sparsity: which supports a tensor may have.

    A set knows no models and no solvers. ``keep`` is an exact count of its *units* (weights, filters,
    columns …); ties go to the lower index.
    """

    @abstractmethod
    def check(self, shape: Sequence[int], *, groups: int = 1) -> None:
        """Raise ``ShapeError`` unless the set makes sense for a tensor (O, I/groups, …)."""

    @abstractmethod
    def units(self, shape: Sequence[int]) -> Keep:
        """How many units a tensor of this shape has: the largest ``keep``."""

    @abstractmethod
    def nonzeros(self, shape: Sequence[int], keep: Keep) -> int:
        """How many weights may be nonzero when ``keep`` units stay."""

    @abstractmethod
    def keep_for(self, shape: Sequence[int], density: float) -> Keep:
        """The ``keep`` whose ``nonzeros`` is nearest to ``density`` × numel, and at least one unit."""

    @abstractmethod
    def support(self, w: Tensor, keep: Keep, metric: Tensor | None = None) -> Tensor:
        """Boolean mask, shape of ``w``: where the nearest point of the set may be nonzero."""

    def project(self, w: Tensor, keep: Keep, metric: Tensor | None = None) -> Tensor:
        """Nearest point of the set to ``w``: kept unchanged on the support, zero elsewhere."""
        return torch.where(self.support(w, keep, metric), w.detach(), 0)

    @abstractmethod
    def contains(self, w: Tensor, keep: Keep) -> bool:
        """Whether ``w`` has at most ``keep`` nonzero units."""


@dataclass(frozen=True)
class GroupSet(Set):
    """A set whose units are disjoint groups of weights, all of one size."""

    @abstractmethod
    def scores(self, w: Tensor, metric: Tensor | None = None) -> Tensor:
        """What a unit is worth, shape (units,): Σ_{i ∈ unit} hᵢ wᵢ², or a monotone function of it."""

    @abstractmethod
    def spread(self, chosen: Tensor, shape: Sequence[int]) -> Tensor:
        """Boolean mask over the tensor from booleans over the units, shape (units,)."""

    def units(self, shape: Sequence[int]) -> int:  # noqa: D102
        raise NotImplementedError

    def support(self, w: Tensor, keep: Keep, metric: Tensor | None = None) -> Tensor:  # noqa: D102
        scores = self.scores(w, metric)
        if not isinstance(keep, int) or not 0 <= keep <= scores.numel():
            raise BudgetError(f"keep={keep} but there are {scores.numel()} units; give 0 <= keep <= that")
        if not torch.isfinite(scores).all():
            raise NonFiniteError("weights hold NaN or infinity; an order would be meaningless")
        return self.spread(largest(scores, keep), w.shape)
