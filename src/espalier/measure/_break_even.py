r"""From which pruned fraction on a sparse form is not slower than the dense one: measured, not quoted.

ADMM-NN restores to dense the layers pruned less than its *break-even ratio*, 2.22 on the hardware it
synthesised. The figure belongs to one runtime, one shape and one batch size; here it is measured on them.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from espalier.errors import RequestError
from espalier.measure._latency import Spread, latency
from espalier.measure._runtimes import Prepare

FRACTIONS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)


@dataclass(frozen=True, kw_only=True)
class BreakEven:
    """What was measured of one layer in one runtime.

    Attributes:
        speedups: Pruned fraction → seconds of the dense form over those of the sparse one, in the same
            round; > 1: the sparse form is faster.
    """

    speedups: dict[float, Spread]

    @property
    def fraction(self) -> float | None:
        """The least measured fraction from which on the sparse form is not slower; None: always slower.

        Not slower: the median of the interleaved ratios is at least 1, there and at every larger fraction.
        """
        found = None
        for fraction in sorted(self.speedups, reverse=True):
            if self.speedups[fraction].median < 1:
                break
            found = fraction
        return found

    @property
    def ratio(self) -> float | None:
        """The same as a pruning ratio, 1 / (1 − fraction)."""
        return None if self.fraction is None else 1 / (1 - self.fraction)


def break_even(
    layer: nn.Linear,
    sparse: Callable[[nn.Linear], nn.Module | Prepare] | None = None,
    *,
    dense: Callable[[nn.Linear], nn.Module | Prepare] | None = None,
    fractions: Sequence[float] = FRACTIONS,
    batch: int = 1,
    threads: int = 1,
    rounds: int = 15,
    turn: float = 0.01,
    seed: int = 0,
    **clock: Callable[[], float],
) -> BreakEven:
    """Time a linear layer dense and sparse, at several pruned fractions, side by side.

    Args:
        layer: Of the shape in question; its weights are not used and not changed.
        sparse: From the pruned layer to what is timed; by default :class:`CompressedRows`. A
            ``Prepare`` can stand for any other runtime, such as the masked layer in ONNX Runtime.
        dense: The same for the form it is compared with; by default the layer, eagerly.
        fractions: Pruned, each in [0, 1).
        batch: Samples per call.
        threads: Threads per call.
        rounds: Of each fraction, >= 2; both forms have a turn in each.
        turn: Seconds that a turn should last at least.
        seed: Of the random supports.
        **clock: ``clock=`` as :func:`~espalier.measure._latency.latency` takes it.

    Raises:
        RequestError: A fraction outside [0, 1), or none.

    Example:
        >>> found = break_even(nn.Linear(8, 8), fractions=[0.5], rounds=2, turn=0.0)
        >>> list(found.speedups)
        [0.5]
    """
    if not fractions or not all(0 <= fraction < 1 for fraction in fractions):
        raise RequestError(f"fractions={list(fractions)}; give pruned fractions in [0, 1)")
    generator = torch.Generator().manual_seed(seed)
    speedups = {}
    for fraction in fractions:
        pruned = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
        with torch.no_grad():
            order = torch.rand(pruned.weight.shape, generator=generator).flatten().argsort()
            pruned.weight.view(-1)[order[: round(fraction * order.numel())]] = 0
        forms = {
            "dense": pruned if dense is None else dense(pruned),
            "sparse": (sparse or _compressed_rows)(pruned),
        }
        table = latency(
            {"": forms}, torch.randn(batch, layer.in_features, generator=generator),
            batches=[batch], threads=[threads], rounds=rounds, turn=turn, **clock,
        )  # fmt: skip
        speedups[fraction] = table.rows[1].speedup
    return BreakEven(speedups=speedups)


def _compressed_rows(layer: nn.Linear) -> Prepare:
    """Ready-made, for PyTorch cannot copy a module that holds sparse tensors."""
    module = CompressedRows(layer).eval()
    return lambda inputs, threads: lambda: module(inputs)


class CompressedRows(nn.Module):
    """A linear layer with its weight in PyTorch's compressed sparse rows (CSR); for inference.

    >>> layer = nn.Linear(4, 3)
    >>> x = torch.ones(2, 4)
    >>> torch.allclose(CompressedRows(layer)(x), layer(x))
    True
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        with warnings.catch_warnings():  # PyTorch calls the layout a beta, which we know
            warnings.filterwarnings("ignore", message="Sparse CSR")
            self.register_buffer("weight", layer.weight.detach().to_sparse_csr())
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach()[:, None])

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in) to (N, out)."""
        product = self.weight @ x.T
        return (product if self.bias is None else product + self.bias).T
