r"""What a set is.

Legend: ``w`` the weights W, ``z`` the nearest point of the set Z, ``h`` the diagonal of the metric
H,

.. math:: \Pi_S(W) = \arg\min_{Z \in S} \sum_i h_i (z_i - w_i)^2

with H = I when no metric is given. Where z may be nonzero it equals w, so the nearest point is
found by the support that retains most of :math:`\sum_i h_i w_i^2`. (O, I, \*k) is the shape of a
weight.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from espalier._ground.registry import Family, reference
from espalier._ground.types import Keep
from espalier.errors import BudgetError
from espalier.sets._energy import Peaks, energy
from espalier.sets._layout import Layout
from espalier.sets._select import largest


@dataclass(frozen=True)
class Set(Family, ABC):
    """A shape of sparsity: which supports a tensor may have.

    A set knows no models and no solvers. ``keep`` is an exact count of its *units* (weights,
    filters, columns …); ties go to the lower index.
    """

    name: ClassVar[str]
    """What recipes and plans call it."""
    unit: ClassVar[str]
    """What ``keep`` counts, in the plural."""
    usable_by: ClassVar[str] = "not known to be used by any stock runtime; measure"
    """Which runtime turns its zeros into speed, in one sentence."""
    any_layout: ClassVar[bool] = False
    """Whether it fits a tensor whose first axis does not count outputs (transposed layers)."""

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
        """The ``keep`` whose ``nonzeros`` is nearest to ``density`` × numel; at least 1."""

    @abstractmethod
    def support(self, w: Tensor, keep: Keep, metric: Tensor | None = None) -> Tensor:
        """Boolean mask, shape of ``w``: where the nearest point of the set may be nonzero.

        Arguments and errors are those of :meth:`project`.
        """

    def project(self, w: Tensor, keep: Keep, metric: Tensor | None = None) -> Tensor:
        r"""Nearest point of the set to ``w``: unchanged on the support, zero elsewhere.

        Args:
            w: Weights, any floating dtype and device, contiguous or not. Not modified.
            keep: Units that may stay, a count: 0 <= keep <= ``units(w.shape)``.
            metric: The diagonal h >= 0 of the norm, shape of ``w``; None for the Euclidean norm.

        Returns:
            A new tensor off the graph: shape, dtype and device of ``w``, sharing no storage.

        Raises:
            BudgetError: ``keep`` out of range.
            ShapeError: The set does not fit the tensor, or the metric has another shape.
            NonFiniteError: NaN or infinity in ``w`` or ``metric``.
            RequestError: A negative entry in ``metric``.
        """
        return torch.where(self.support(w, keep, metric), w.detach(), 0)

    @abstractmethod
    def contains(self, w: Tensor, keep: Keep) -> bool:
        """Whether ``w`` lies in the set: at most ``keep`` nonzero units, exactly."""

    def spec(self) -> str | dict[str, dict[str, Any]]:
        """The set as recipes and plans write it; :func:`espalier.sets.parse` reads it back."""
        arguments = {field.name: getattr(self, field.name) for field in fields(self)}
        name = reference(type(self))
        return {name: arguments} if arguments else name


@dataclass(frozen=True)
class GroupSet(Set):
    """A set whose units are disjoint groups of weights, all of one size, that tile the tensor.

    A subclass says how (:meth:`layout`) and, if a kept unit is itself sparse, which of its weights
    stay (:meth:`inside`, :meth:`fits_inside`, :meth:`unit_nonzeros`).
    """

    @abstractmethod
    def layout(self, shape: Sequence[int]) -> Layout:
        """How a tensor of this shape falls into units; ``ShapeError`` if it does not."""

    def inside(self, e: Tensor) -> Tensor | None:
        """Where a kept unit may be nonzero, from energies in ``layout.split``; None: everywhere."""
        return None

    def fits_inside(self, nonzero: Tensor) -> bool:
        """Whether every unit could have these nonzeros, booleans in ``layout.split``."""
        return True

    def unit_nonzeros(self, shape: Sequence[int]) -> int:
        """How many weights of a kept unit may be nonzero."""
        return self.layout(shape).size

    def check(self, shape: Sequence[int], *, groups: int = 1) -> None:
        self.layout(shape)

    def units(self, shape: Sequence[int]) -> int:
        return self.layout(shape).units

    def nonzeros(self, shape: Sequence[int], keep: Keep) -> int:
        return self.count(shape, keep) * self.unit_nonzeros(shape)

    def keep_for(self, shape: Sequence[int], density: float) -> int:
        check_density(density)
        units, size = self.layout(shape).units, self.layout(shape).size
        nearest = round(density * units * size / max(1, self.unit_nonzeros(shape)))
        return min(units, max(1, nearest))

    def count(self, shape: Sequence[int], keep: Keep) -> int:
        """``keep`` as an int, or ``BudgetError`` when a tensor of this shape cannot keep it."""
        return check_keep(keep, self.units(shape), self.unit)

    def support(self, w: Tensor, keep: Keep, metric: Tensor | None = None) -> Tensor:
        count = self.count(w.shape, keep)
        scores, inside = self.rank(w, metric)
        return self.mask(largest(scores, count), inside, w.shape)

    def rank(
        self, w: Tensor, metric: Tensor | None = None, peaks: Peaks | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Score of every unit, shape (units,), and ``inside`` as a mask in ``layout.split``.

        Of a part of a tensor, the ``peaks`` of the whole make the scores of all parts comparable.
        """
        return self._rank(energy(w, metric, peaks)[0])

    def scores(self, w: Tensor, metric: Tensor | None = None) -> Tensor:
        """What a unit is worth, shape (units,): a monotone function of Σ_{i ∈ unit} hᵢ wᵢ²."""
        return self.rank(w, metric)[0]

    def energies(
        self, w: Tensor, metric: Tensor | None = None, peaks: Peaks | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """As :meth:`rank`, with the very Σ hᵢ wᵢ² in float64: comparable between tensors."""
        e, exponent = energy(w, metric, peaks)
        scores, inside = self._rank(e)
        return scores.double() * (2.0**exponent if exponent < 1024 else torch.inf), inside

    def mask(self, chosen: Tensor, inside: Tensor | None, shape: Sequence[int]) -> Tensor:
        """Boolean mask over the tensor from booleans over the units, and what stays inside them."""
        spread = self.spread(chosen, shape)
        return spread if inside is None else spread.logical_and_(inside.reshape(spread.shape))

    def spread(self, chosen: Tensor, shape: Sequence[int]) -> Tensor:
        """Boolean mask over the tensor from booleans over the units, shape (units,)."""
        split, within = self.layout(shape)
        thin = [1 if axis in within else n for axis, n in enumerate(split)]
        return chosen.reshape(thin).expand(split).contiguous().reshape(tuple(shape))

    def contains(self, w: Tensor, keep: Keep) -> bool:
        nonzero = w.detach().ne(0).reshape(self.layout(w.shape).split)
        kept = int(torch.count_nonzero(self.occupied(w)))
        return kept <= self.count(w.shape, keep) and self.fits_inside(nonzero)

    def occupied(self, w: Tensor) -> Tensor:
        """Booleans over the units, shape (units,): which hold a nonzero weight."""
        split, within = self.layout(w.shape)
        nonzero = w.detach().ne(0).reshape(split)
        return (nonzero.any(within) if within else nonzero).flatten()

    def _rank(self, e: Tensor) -> tuple[Tensor, Tensor | None]:
        split, within = self.layout(e.shape)
        e = e.reshape(split)
        inside = self.inside(e)
        retained = e if inside is None else e * inside
        if not within:
            return retained.flatten(), inside
        # Squares in float32 add up in float64 without rounding, wherever they do not lie some nine
        # orders apart: so equal units tie, in whatever order, on however many ranks, they were added.
        return retained.sum(within, dtype=torch.float64).flatten(), inside


def check_keep(keep: object, most: int, unit: str) -> int:
    """``keep`` if it is a count from 0 to ``most``."""
    if not isinstance(keep, int) or isinstance(keep, bool) or not 0 <= keep <= most:
        raise BudgetError(f"keep={keep} but there are {most} {unit}; give 0 <= keep <= {most}")
    return keep


def check_density(density: float) -> None:
    """A fraction."""
    if not 0 <= density <= 1:
        raise BudgetError(f"density={density} is not a fraction; give 0 <= density <= 1")
