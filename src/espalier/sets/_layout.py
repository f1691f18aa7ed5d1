"""How a tensor is seen as units, and what is said when it cannot be."""

from collections.abc import Sequence
from math import isqrt, prod
from typing import NamedTuple

from espalier.errors import ShapeError

_TRIED = 1 << 16


class Layout(NamedTuple):
    """Reshape to ``split``; one unit runs over the axes ``within``, the other axes count units."""

    split: tuple[int, ...]
    within: tuple[int, ...]

    @property
    def units(self) -> int:
        """How many units there are."""
        return prod(n for axis, n in enumerate(self.split) if axis not in self.within)

    @property
    def size(self) -> int:
        """How many weights a unit has."""
        return prod(self.split[axis] for axis in self.within)


def matrix(shape: Sequence[int], units: str) -> tuple[int, int]:
    """(O, I·prod(k)): rows and columns of the GEMM view of (O, I, *k)."""
    return outputs_inputs(shape, units)[0], prod(shape[1:])


def outputs_inputs(shape: Sequence[int], units: str) -> tuple[int, int]:
    """(O, I) of a tensor (O, I, *k)."""
    if len(shape) < 2:
        raise ShapeError(
            f"a tensor of shape {tuple(shape)} has no {units}; "
            "give a weight (O, I, ...), or use Unstructured"
        )
    return shape[0], shape[1]


def refuse_groups(groups: int, units: str) -> None:
    """Refuse a grouped convolution where a unit runs through every filter."""
    if groups > 1:
        raise ShapeError(
            f"{units} of a convolution in {groups} groups: input index i is another feature map in "
            "each group, so they are not units; use Filters or Kernels"
        )


def divisors(n: int) -> str:
    """The divisors of ``n``, for a message; those that 1 to 65,536 show.

    >>> divisors(12), divisors(0)
    ('1, 2, 3, 4, 6, 12', 'none')
    """
    few = [d for d in range(1, min(isqrt(n), _TRIED) + 1) if n % d == 0]
    return ", ".join(map(str, sorted({*few, *(n // d for d in few)}))) or "none"
