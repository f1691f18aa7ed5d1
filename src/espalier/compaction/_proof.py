"""The evidence that a compact model computes what the masked one does."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from espalier._ground.example import Example, arguments
from espalier._ground.modes import evaluating


@dataclass(frozen=True, kw_only=True)
class Proof:
    """Largest difference between two models over some batches, in evaluation mode.

    Attributes:
        difference: max |Δoutput| over all outputs and batches.
        scale: max |output| of the masked model.
        tolerance: What ``difference`` may be, relative to ``scale``.
        random_batches: Batches drawn at random in the form of the example.
        real_batches: Batches that the caller gave.
        mismatch: What could not be compared at all (shapes, structure); empty if nothing.
    """

    difference: float
    scale: float
    tolerance: float
    random_batches: int
    real_batches: int
    mismatch: str = ""

    @property
    def holds(self) -> bool:
        """Is the difference within the tolerance?"""
        return not self.mismatch and self.difference <= self.tolerance * self.scale

    def __str__(self) -> str:
        if self.mismatch:
            return f"no proof: {self.mismatch}"
        word = "proof" if self.holds else "NO proof"
        return (
            f"{word}: max |Δoutput| {self.difference:.2e} (outputs up to {self.scale:.2e}) on "
            f"{self.random_batches} random and {self.real_batches} real batches"
        )


def compare(
    masked: nn.Module,
    small: nn.Module,
    example: Example,
    batches: Iterable[Example] | None = None,
    *,
    random_batches: int = 3,
    tolerance: float = 1e-4,
    seed: int = 0,
) -> Proof:
    """Run two models on the same batches and compare every output.

    Args:
        masked: The model with zeros in place. Its modes are restored.
        small: The compact one.
        example: A batch, in the form ``channel_graph`` takes; also compared on itself.
        batches: Further, real ones.
        random_batches: How many to draw: normal numbers for floats, for integers numbers within
            the range of the example.
        tolerance: See :class:`Proof`.
        seed: For the random batches.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = [_like(arguments(example), generator) for _ in range(random_batches)]
    real = [arguments(b) for b in batches or ()]
    difference, scale = 0.0, 0.0
    mismatch = ""
    for args, kwargs in [arguments(example), *drawn, *real]:
        with evaluating(masked), evaluating(small), torch.no_grad():
            expected = _tensors(masked(*args, **kwargs))
            found = _tensors(small(*args, **kwargs))
        if [t.shape for t in expected] != [t.shape for t in found]:
            mismatch = "the outputs differ in number or shape"
            break
        for a, b in zip(expected, found, strict=True):
            if a.numel() == 0:
                continue
            gap = (a.double() - b.double()).abs().max().item()
            # NaN is unequal to itself; max() below would pass it over in silence.
            if not gap == gap or gap == float("inf"):
                mismatch = "an output is not finite"
            difference, scale = max(difference, gap), max(scale, a.double().abs().max().item())
    return Proof(
        difference=difference,
        scale=scale,
        tolerance=tolerance,
        random_batches=random_batches,
        real_batches=len(real),
        mismatch=mismatch,
    )


def _tensors(output: object) -> list[Tensor]:
    if hasattr(output, "to_tuple"):
        output = output.to_tuple()
    found = [t for t in pytree.tree_leaves(output) if isinstance(t, Tensor)]
    return [t for t in found if t.dtype != torch.bool]


def _like(
    example: tuple[tuple[object, ...], Mapping[str, object]], generator: torch.Generator
) -> tuple[tuple[object, ...], dict[str, object]]:
    def draw(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point():
            fresh = torch.randn(tensor.shape, generator=generator)
            return fresh.to(tensor.device, tensor.dtype)
        if tensor.dtype == torch.bool or tensor.numel() == 0:
            return tensor
        # Integers are usually indices: beyond the range of the example they may lie outside a
        # table.
        low, high = int(tensor.min()), int(tensor.max())
        fresh = torch.randint(low, high + 1, tensor.shape, generator=generator)
        return fresh.to(tensor.device, tensor.dtype)

    drawn = pytree.tree_map_only(Tensor, draw, example)
    return drawn[0], dict(drawn[1])
