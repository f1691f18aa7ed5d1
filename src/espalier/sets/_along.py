"""Which unit every index of an axis belongs to, and what that says of a tensor."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from espalier.errors import NonFiniteError, ShapeError
from espalier.sets._energy import energy

STAYS = -1
"""The unit of an index that belongs to none: it always stays."""


@dataclass(frozen=True)
class Along:
    """Which unit every index of one axis of a tensor belongs to.

    Attributes:
        axis: Of the tensor.
        units: One number an index; ``STAYS`` for indices that never go.
    """

    axis: int
    units: tuple[int, ...]


def energy_of(name: str, w: Tensor, metric: Tensor | None, along: Along) -> Tensor:
    """hᵢ wᵢ², each as exact as the weights, in float64: sums of them are exact; shape of the tensor.

    Raises:
        ShapeError: The axis has another size.
        NonFiniteError: NaN, infinity, or an energy beyond float64.
    """
    if along.axis >= w.dim() or w.shape[along.axis] != len(along.units):
        raise ShapeError(
            f"{name}: shape {tuple(w.shape)} but {len(along.units)} indices along axis {along.axis}"
        )
    e, exponent = energy(w, metric)
    e = e.double() * (2.0**exponent if exponent < 1024 else torch.inf)
    if e.numel() and not bool(torch.isfinite(e.amax())):
        raise NonFiniteError(f"{name}: the energy of a unit overflows float64")
    return e


def spread(along: Along, chosen: Tensor, shape: Sequence[int]) -> Tensor:
    """Booleans over a tensor from booleans over the units."""
    units = torch.tensor(along.units, dtype=torch.int64, device=chosen.device)
    stays = chosen[units.clamp(min=0)] | (units == STAYS)
    thin = [1] * len(shape)
    thin[along.axis] = len(along.units)
    return stays.reshape(thin).expand(tuple(shape)).contiguous()


def columns_of(columns: Tensor | None, shape: Sequence[int]) -> Tensor:
    """Booleans over a tensor (O, …) from booleans over its columns; True without them."""
    if columns is None:
        return torch.ones((), dtype=torch.bool)
    return columns.reshape(1, *shape[1:])
