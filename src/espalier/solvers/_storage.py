"""How a solver's state is kept between updates: one tensor a weight, and Z on its support.

The pull Λ + ρ(W − Z) is affine in W. Its constant part, Λ − ρZ, is all that a training step needs, so
that is what is stored (``offset``): a step is then two fused additions. Z keeps its nonzeros and a bitmask;
Λ = offset + ρZ is recovered when an update asks for it.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_BITS = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8)


@dataclass(frozen=True)
class Packed:
    """A tensor of many zeros: its nonzeros in order, and one bit a position."""

    values: Tensor
    bits: Tensor
    shape: tuple[int, ...]

    @classmethod
    def pack(cls, dense: Tensor) -> "Packed":
        """Keep the nonzeros of ``dense``.

        >>> Packed.pack(torch.tensor([[0.0, 2.0], [3.0, 0.0]])).unpack()
        tensor([[0., 2.],
                [3., 0.]])
        """
        mask = dense != 0
        return cls(dense[mask], pack_bits(mask), tuple(dense.shape))

    def unpack(self) -> Tensor:
        """The dense tensor again."""
        dense = self.values.new_zeros(self.shape)
        dense[unpack_bits(self.bits, self.shape)] = self.values
        return dense

    def state_dict(self) -> dict[str, Any]:
        """Tensors and scalars."""
        return {"values": self.values, "bits": self.bits, "shape": list(self.shape)}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "Packed":
        """The inverse of ``state_dict``."""
        return cls(state["values"], state["bits"], tuple(state["shape"]))


def pack_bits(mask: Tensor) -> Tensor:
    """Booleans of any shape to bytes, the first element in the lowest bit."""
    flat = mask.flatten()
    padded = torch.nn.functional.pad(flat, (0, -flat.numel() % 8)).view(-1, 8)
    return (padded * _BITS.to(mask.device)).sum(1, dtype=torch.uint8)


def unpack_bits(bits: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The inverse of :func:`pack_bits` for a tensor of this shape."""
    count = torch.Size(shape).numel()
    flat = bits.unsqueeze(1).bitwise_and(_BITS.to(bits.device)).ne(0).flatten()
    return flat[:count].reshape(shape)
