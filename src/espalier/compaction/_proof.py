"""The evidence that a compact model computes what the masked one does."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from espalier._ground.example import Example, arguments
from espalier._ground.sizes import Call
from espalier._ground.wrapping import copied
from espalier.compaction._trials import Trials, brief, drawn, expected_outputs, outputs, untrainable
from espalier.errors import RequestError

ROUNDING = 3e-6
"""A difference beside the output's size that rounding in float32 explains without a second look."""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """The largest difference between two models over some batches, in evaluation mode.

    Of all outputs the one counts whose difference is largest *beside its own size*.

    Attributes:
        difference: max |Δoutput| of that output over all batches.
        scale: max |output| of it, in the masked model.
        tolerance: What ``difference`` may be, relative to ``scale``.
        random_batches: Batches drawn at random in the form of the example.
        real_batches: Batches that the caller gave.
        mismatch: What could not be compared at all (shapes, structure); empty if nothing.
        other_sizes: How many of the random batches are of another size than the example.
        doubled: Did it take float64 to tell rounding from a difference?
    """

    difference: float
    scale: float
    tolerance: float
    random_batches: int
    real_batches: int
    mismatch: str = ""
    other_sizes: int = 0
    doubled: bool = False

    @property
    def holds(self) -> bool:
        """Is the difference within the tolerance?"""
        return not self.mismatch and self.difference <= self.tolerance * self.scale

    def __str__(self) -> str:
        if self.mismatch:
            return f"no proof: {self.mismatch}"
        word = "proof" if self.holds else "NO proof"
        sizes = f" ({self.other_sizes} of other sizes)" if self.other_sizes else ""
        return (
            f"{word}: max |Δoutput| {self.difference:.2e} (outputs up to {self.scale:.2e}) on "
            f"{self.random_batches} random{sizes} and {self.real_batches} real batches"
            f"{', in float64' if self.doubled else ''}"
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

    Also on batches of other sizes, where the masked model takes them. What fails by rounding alone is
    found out by asking again in float64. Both models' modes and buffers are restored.

    Args:
        masked: The model with zeros in place.
        small: The compact one.
        example: A batch, in the form ``channel_graph`` takes; also compared on itself.
        batches: Further, real ones.
        random_batches: How many to draw: normal numbers for floats, for integers numbers within
            the range of the example.
        tolerance: See :class:`Proof`.
        seed: For the random batches.

    Raises:
        RequestError: The masked model does not run on the example, or on one of ``batches``.
    """
    trials = drawn(masked, example, random_batches=random_batches, seed=seed)
    return proved(masked, small, trials, list(batches or ()), tolerance=tolerance)


def proved(
    masked: nn.Module,
    small: nn.Module,
    trials: Trials,
    real: Sequence[Example] = (),
    *,
    tolerance: float = 1e-4,
) -> Proof:
    """See :func:`compare`; with the batches drawn already, and what the masked model makes of them."""
    found = measured(masked, small, trials, real, tolerance=tolerance)
    if not found.mismatch and found.difference > ROUNDING * found.scale:
        # Rounding that a deep network amplifies is gone in float64. An error is not, small as it may be
        # while the weights are.
        again = _doubled(masked, small, trials, real, tolerance)
        if again is not None and again.difference <= found.difference / 2:
            found = replace(again, doubled=True)
        elif again is not None and found.holds:
            gap = f"{found.difference:.2e} (outputs up to {found.scale:.2e})"
            found = replace(found, mismatch=f"a difference of {gap} that float64 does not shrink")
    if found.holds and trials.trains:
        why = untrainable(small, trials.calls[0])
        found = replace(found, mismatch=f"it fails in training mode ({why})") if why else found
    return found


def measured(
    masked: nn.Module,
    small: nn.Module,
    trials: Trials,
    real: Sequence[Example] = (),
    *,
    tolerance: float = 1e-4,
) -> Proof:
    """How far the two are apart, in their own precision, whatever the reason."""
    return _compared(masked, small, trials, [arguments(one) for one in real], tolerance)


def _doubled(
    masked: nn.Module, small: nn.Module, trials: Trials, real: Sequence[Example], tolerance: float
) -> Proof | None:
    wide = replace(trials, calls=tuple(_double(c) for c in trials.calls), expected=())
    more = [_double(arguments(one)) for one in real]
    models = [copied(model).double() for model in (masked, small)]
    try:
        found = _compared(models[0], models[1], wide, more, tolerance)
    except RequestError:  # its precision is written into the model
        return None
    return None if found.mismatch else found


def _double(call: Call) -> Call:
    wide: Call = pytree.tree_map_only(
        Tensor, lambda t: t.double() if t.is_floating_point() else t, call
    )
    return wide


def _compared(
    masked: nn.Module, small: nn.Module, trials: Trials, real: Sequence[Call], tolerance: float
) -> Proof:
    gaps: dict[int, float] = {}
    scales: dict[int, float] = {}
    mismatch = ""
    for number, call in enumerate([*trials.calls, *real]):
        known = number < len(trials.expected)
        expected = trials.expected[number] if known else expected_outputs(masked, call)
        try:
            found = outputs(small, call)
        except (
            Exception
        ) as error:  # whatever its code raises on a batch that the masked model takes
            mismatch = f"it fails on a batch of the masked model ({brief(error)})"
            break
        if [t.shape for t in expected] != [t.shape for t in found]:
            mismatch = "the outputs differ in number or shape"
            break
        for at, (a, b) in enumerate(zip(expected, found, strict=True)):
            gap, scale = _apart(a, b)
            # NaN is unequal to itself; max() below would pass it over in silence.
            if not gap < float("inf"):
                mismatch = "an output is not finite"
            gaps[at] = max(gaps.get(at, 0.0), gap)
            scales[at] = max(scales.get(at, 0.0), scale)
    # Each output is judged beside its own size: logits may be small beside a map of features.
    worst = max(gaps, key=lambda at: gaps[at] / scales[at] if scales[at] else gaps[at], default=0)
    return Proof(
        difference=gaps.get(worst, 0.0),
        scale=scales.get(worst, 0.0),
        tolerance=tolerance,
        random_batches=len(trials.calls) - 1,
        real_batches=len(real),
        mismatch=mismatch,
        other_sizes=trials.other_sizes,
    )


def _apart(a: Tensor, b: Tensor) -> tuple[float, float]:
    """The largest |a - b| and |a|; equal infinities (masked scores) are no difference."""
    if a.numel() == 0:
        return 0.0, 0.0
    a, b = a.detach().double(), b.detach().double()
    gap = torch.where(a == b, 0.0, a - b).abs().max().item()
    return gap, torch.where(a.isinf(), 0.0, a).abs().max().item()
