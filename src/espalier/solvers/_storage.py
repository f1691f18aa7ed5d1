"""How a solver's state is kept between updates: one tensor a weight, and Z on its support.

The pull Λ + ρ(W − Z) is affine in W. Its constant part, Λ − ρZ, is all that a training step needs, so
that is what is stored (``offset``): a step is then two fused additions. Z keeps its nonzeros and a bitmask;
Λ = offset + ρZ is recovered when an update asks for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from espalier.solvers._solver import State

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


@dataclass(frozen=True)
class Stored:
    """A solver's state between two updates.

    Attributes:
        offset: pull_scale · (Λ − ρZ), by parameter name.
        z: Z.
        scalars: The state without its tensors.
        held: Its masks.
    """

    offset: dict[str, Tensor]
    z: dict[str, Packed]
    scalars: State
    held: dict[str, Tensor]

    @classmethod
    def of(cls, state: State) -> "Stored":
        """Keep a state."""
        scale, rho = state.pull_scale, state.rho
        offset = {
            name: (multiplier - rho * state.z[name]).mul_(scale)
            for name, multiplier in state.multiplier.items()
        }
        z = {name: Packed.pack(z) for name, z in state.z.items()}
        return cls(offset, z, replace(state, z={}, multiplier={}, held={}), state.held)

    def state(self) -> State:
        """The state with Z and Λ written out."""
        z = {name: packed.unpack() for name, packed in self.z.items()}
        rho, scale = self.scalars.rho, self.scalars.pull_scale
        multiplier = {name: o / scale + rho * z[name] for name, o in self.offset.items()}
        return replace(self.scalars, z=z, multiplier=multiplier, held=self.held)

    def state_dict(self) -> dict[str, Any]:
        """Nested dicts of tensors and JSON scalars."""
        state = self.scalars
        return {
            "offset": dict(self.offset),
            "z": {name: packed.state_dict() for name, packed in self.z.items()},
            "masks": dict(self.held),
            "state": {
                "rho": state.rho, "step": state.step, "k": state.k,
                "pull_scale": state.pull_scale, "scalars": dict(state.scalars),
            },
        }  # fmt: skip

    @classmethod
    def from_state_dict(cls, saved: Mapping[str, Any]) -> "Stored":
        """The inverse of ``state_dict``."""
        z = {name: Packed.from_state_dict(packed) for name, packed in saved["z"].items()}
        return cls(dict(saved["offset"]), z, State(**saved["state"]), dict(saved["masks"]))


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
