"""How a solver's state is kept between updates: one tensor per weight, and Z on its support.

The pull Λ + ρ(W − Z) is affine in W. Its constant part, Λ − ρZ, is all that a training step needs, so
that is what is stored (``offset``): a step is then two fused additions. Z keeps its nonzeros and a bitmask;
Λ = offset + ρZ is recovered when an update asks for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from espalier._ground.sharding import distributed, like, local, placed
from espalier.solvers._solver import Pulling, State

_BITS = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8)


@dataclass(frozen=True)
class Packed:
    """A tensor of many zeros: its nonzeros in order, and one bit per position."""

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
        if "dense" in state:
            return cls.pack(local(state["dense"]))
        return cls(state["values"], state["bits"], tuple(state["shape"]))


_TENSORS = ("z", "multiplier", "held")


@dataclass(frozen=True)
class Stored:
    """A solver's state between two updates.

    Attributes:
        offset: pull_scale · (Λ − ρZ), by parameter name; empty for a solver that does not pull.
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
        if not isinstance(state, Pulling):
            return cls({}, {}, replace(state, held={}), state.held)
        scale, rho = state.pull_scale, state.rho
        offset = {
            name: (multiplier - rho * state.z[name]).mul_(scale)
            for name, multiplier in state.multiplier.items()
        }
        z = {name: Packed.pack(local(z)) for name, z in state.z.items()}
        return cls(offset, z, replace(state, z={}, multiplier={}, held={}), state.held)

    @property
    def pull(self) -> float:
        """pull_scale · ρ: the coefficient of W in the pull."""
        return (
            self.scalars.pull_scale * self.scalars.rho if isinstance(self.scalars, Pulling) else 0.0
        )

    def state(self) -> State:
        """The state with Z and Λ written out."""
        if not isinstance(self.scalars, Pulling):
            return replace(self.scalars, held=self.held)
        z = self._z()
        rho, scale = self.scalars.rho, self.scalars.pull_scale
        multiplier = {name: o / scale + rho * z[name] for name, o in self.offset.items()}
        return replace(self.scalars, z=z, multiplier=multiplier, held=self.held)

    def _z(self) -> dict[str, Tensor]:
        return {name: like(packed.unpack(), self.offset[name]) for name, packed in self.z.items()}

    def state_dict(self) -> dict[str, Any]:
        """Nested dicts of tensors and JSON scalars; Z dense where the ranks hold parts of it."""
        scalars = {f.name: getattr(self.scalars, f.name) for f in fields(self.scalars)}
        return {
            "offset": dict(self.offset),
            "z": {
                name: {"dense": z} if distributed(z) else self.z[name].state_dict()
                for name, z in self._z().items()
            },
            "held": dict(self.held),
            "scalars": {name: value for name, value in scalars.items() if name not in _TENSORS},
        }

    @classmethod
    def from_state_dict(cls, saved: Mapping[str, Any], state: type[State]) -> "Stored":
        """The inverse of ``state_dict``, for a solver whose states are of this type."""
        offset = dict(saved["offset"])
        z = {name: Packed.from_state_dict(kept) for name, kept in saved["z"].items()}
        for name, whole in z.items():
            # Saved by one rank, and each has a part now.
            if distributed(offset[name]) and "dense" not in saved["z"][name]:
                part = placed({name: whole.unpack()}, offset)[name]
                z[name] = Packed.pack(local(part))
        return cls(offset, z, state(**saved["scalars"]), dict(saved["held"]))


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
