r"""Norms of groups of weights as a regulariser: its sub-gradient, and its proximal step.

Legend (paper → here): W^(l) a ``weight`` (O, I, \*k), w^(g) one unit of a set's ``layout``, ‖w^(g)‖_g ``norms``,
λ_n ``filters``, λ_c ``channels``, λ_s ``shapes``, λ_d ``depth``, η ``step``.

    R(W) = Σ_l  λ_n Σ_o ‖W_o‖ + λ_c Σ_i ‖W_:i‖ + λ_s Σ_{i,a,b} ‖W_:iab‖ + λ_d ‖W‖

Wen, Wu, Wang, Chen & Li, "Learning Structured Sparsity in Deep Neural Networks", NeurIPS 2016
(arXiv:1608.03665), equations (3) to (6).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from espalier.sets import Channels, Columns, Filters, GroupSet, Layout


@dataclass(frozen=True)
class Groups:
    """Units of one kind in one tensor, and the price of their norms."""

    layout: Layout
    price: float

    def norms(self, weight: Tensor) -> Tensor:
        """‖w^(g)‖ of every unit, shaped to broadcast against the split weight."""
        parts = weight.reshape(self.layout.split)
        if not self.layout.within:  # units of one weight
            return parts.abs()
        norms: Tensor = torch.linalg.vector_norm(parts, dim=self.layout.within, keepdim=True)
        return norms

    def scaled(self, weight: Tensor, factors: Tensor) -> Tensor:
        """Every unit times its factor: a new tensor in the weight's shape."""
        return (weight.reshape(self.layout.split) * factors).reshape(weight.shape)

    def subgradient(self, weight: Tensor) -> Tensor:
        """λ w/‖w‖; 0, which is one of them, where the unit is 0.

        >>> rows = Groups(Filters().layout((2, 2)), 2.0)
        >>> rows.subgradient(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[1.2000, 1.6000],
                [0.0000, 0.0000]])
        """
        norms = self.norms(weight)
        return self.scaled(weight, self.price / norms.where(norms > 0, 1.0))

    def shrunk(self, weight: Tensor, step: float) -> Tensor:
        """The proximal step: w · max(0, 1 − ηλ/‖w‖), exactly zero where ‖w‖ ≤ ηλ.

        >>> rows = Groups(Filters().layout((2, 2)), 2.0)
        >>> rows.shrunk(torch.tensor([[3.0, 4.0], [0.1, 0.5]]), step=0.5)
        tensor([[2.4000, 3.2000],
                [0.0000, 0.0000]])
        """
        norms = self.norms(weight)
        factors = (1.0 - step * self.price / norms.where(norms > 0, 1.0)).clamp(min=0)
        return self.scaled(weight, factors) + 0.0  # never −0.0

    def alive(self, weight: Tensor, threshold: float) -> Tensor:
        """Booleans, shape of the weight: whether a unit's norm is above the threshold."""
        parts = (self.norms(weight) > threshold).expand(self.layout.split)
        return parts.reshape(weight.shape)


def groups_of(
    shape: Sequence[int],
    *,
    shapes: float = 0.0,
    channels: float = 0.0,
    filters: float = 0.0,
    depth: float = 0.0,
    convolution_groups: int = 1,
) -> tuple[Groups, ...]:
    """The kinds of units that have a price, the smaller before the larger that contain them.

    In this order proximal steps one after the other are the proximal step of the sum wherever units are
    nested (shapes in channels, all in the layer; Jenatton et al. 2011). Filters and channels cross; for the
    two together it is a step of each.

    Raises:
        ShapeError: A tensor without such units, or channels of a grouped convolution.
    """
    kinds: list[tuple[GroupSet, float]] = [
        (Columns(), shapes), (Channels(), channels), (Filters(), filters),
    ]  # fmt: skip
    found = []
    for which, price in kinds:
        if price:
            which.check(shape, groups=convolution_groups)
            found.append(Groups(which.layout(shape), price))
    if depth:
        axes = tuple(range(len(shape)))
        found.append(Groups(Layout(tuple(shape), axes), depth))
    return tuple(found)
