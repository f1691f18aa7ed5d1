"""How many weights there are and how many are left, under every convention in use.

"Compression" means something else in almost every paper. The conventions, with who uses them:

==================== ======================================================== =================
convention           what is counted                                          used by
==================== ======================================================== =================
all_nonbias          parameters whose *name* lacks "bias", norm weights too    SLR, irregular
conv_fc_weights      weights of convolutions and linear layers                 ADMM, ADMM-NN
conv_only            weights of convolutions, 1×1 shortcuts too                P-RM
pruned_layers_only   the tensors that were pruned                              SLR/ADMM, structured
all_params           every parameter                                           RDA
==================== ======================================================== =================
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf

import torch
from torch import Tensor, nn

from espalier.errors import RequestError, UnknownNameError, nearest
from espalier.measure._kinds import LayerKind, layer_kinds

CONVENTIONS = (
    "all_nonbias",
    "conv_fc_weights",
    "conv_only",
    "pruned_layers_only",
    "all_params",
)
"""The names of the conventions, in the order in which they are printed."""


@dataclass(frozen=True, kw_only=True)
class Count:
    """So many weights, of which so many are not zero.

    >>> count = Count(total=430_500, nonzero=6_050)
    >>> f"{count.density:.4f} {count.compression:.1f}×"
    '0.0141 71.2×'
    """

    total: int
    nonzero: int

    @property
    def density(self) -> float:
        """Fraction that is not zero; 1 for an empty count."""
        return self.nonzero / self.total if self.total else 1.0

    @property
    def sparsity(self) -> float:
        """Fraction that is zero: 1 − density."""
        return 1.0 - self.density

    @property
    def compression(self) -> float:
        """Total over nonzero, ≥ 1; infinite when nothing is left, 1 for an empty count."""
        if not self.total:
            return 1.0
        return self.total / self.nonzero if self.nonzero else inf

    def __add__(self, other: "Count") -> "Count":
        return Count(total=self.total + other.total, nonzero=self.nonzero + other.nonzero)


@dataclass(frozen=True, kw_only=True)
class SparsityReport:
    """One :class:`Count` for each convention (see the head of this module).

    Attributes:
        all_nonbias: every parameter whose name does not contain "bias" (SLR).
        conv_fc_weights: weights of convolutions and linear layers (ADMM).
        conv_only: weights of convolutions, shortcuts included (P-RM).
        pruned_layers_only: the tensors that were pruned.
        all_params: every parameter.
        layers: the counts of each parameter, by name.
    """

    all_nonbias: Count
    conv_fc_weights: Count
    conv_only: Count
    pruned_layers_only: Count
    all_params: Count
    layers: Mapping[str, Count] = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[str, Count]]:
        return ((convention, getattr(self, convention)) for convention in CONVENTIONS)

    def to_dict(self) -> dict[str, dict[str, int | float | None]]:
        """JSON for ``result.json``: total, nonzero, compression (null when nothing is left)."""
        return {
            convention: {
                "total": count.total,
                "nonzero": count.nonzero,
                "compression": count.compression if count.compression < inf else None,
            }
            for convention, count in self
        }


def counts(
    tensors: nn.Module | Mapping[str, Tensor],
    kinds: Mapping[str, LayerKind] | None = None,
    pruned: Collection[str] | None = None,
) -> SparsityReport:
    """Count the weights of a model, and the nonzero ones, under every convention.

    Args:
        tensors: a model, or its parameters by name; shared parameters are counted once in a model.
        kinds: layer kind by parameter name; taken from the model when one is given.
        pruned: names of the pruned parameters, for ``pruned_layers_only``; without it, the conv and
            linear weights that hold at least one zero.

    Raises:
        UnknownNameError: ``pruned`` names no parameter, or a tensor has no kind.
        RequestError: tensors on the meta device (no values to count; a plan's ``counts()`` says
            what it *will* leave), or named tensors without kinds.

    Example:
        >>> model = nn.Linear(4, 2)
        >>> _ = nn.init.ones_(model.weight)
        >>> model.weight.data[0] = 0
        >>> counts(model).conv_fc_weights
        Count(total=8, nonzero=4)
    """
    if isinstance(tensors, nn.Module):
        kinds = layer_kinds(tensors) if kinds is None else kinds
        tensors = dict(tensors.named_parameters())
    if kinds is None:
        raise RequestError("counts of named tensors need kinds=, by name; or give the model")
    layers = {}
    for name, tensor in tensors.items():
        if tensor.is_meta:
            raise RequestError(f"{name}: on the meta device there are no values to count")
        layers[name] = Count(total=tensor.numel(), nonzero=int(torch.count_nonzero(tensor)))
    return tally(layers, kinds, pruned)


def tally(
    layers: Mapping[str, Count],
    kinds: Mapping[str, LayerKind],
    pruned: Collection[str] | None = None,
) -> SparsityReport:
    """Sum counts by parameter into counts by convention.

    Args:
        layers: the count of each parameter, by name.
        kinds: the layer kind of each, by name.
        pruned: as for :func:`counts`.

    Raises:
        UnknownNameError: ``pruned`` names no parameter, or a parameter has no kind.

    Example:
        >>> tally({"fc.weight": Count(total=8, nonzero=2), "fc.bias": Count(total=2, nonzero=2)},
        ...       {"fc.weight": LayerKind.LINEAR, "fc.bias": LayerKind.BIAS}).all_params
        Count(total=10, nonzero=4)
    """
    for name in layers:
        if name not in kinds:
            raise UnknownNameError(f"no layer kind given for {name!r}; {nearest(name, kinds)}")
    weights = {name for name in layers if kinds[name].is_conv or kinds[name].is_linear}
    if pruned is None:
        # A model does not say what was pruned in it; a zero in a weight is the sign of it.
        pruned = {name for name in weights if layers[name].nonzero < layers[name].total}
    for name in pruned:
        if name not in layers:
            raise UnknownNameError(f"no parameter {name!r} to count; {nearest(name, layers)}")

    def over(names: Collection[str]) -> Count:
        return sum((layers[name] for name in names), Count(total=0, nonzero=0))

    return SparsityReport(
        all_nonbias=over([name for name in layers if "bias" not in name]),
        conv_fc_weights=over(weights),
        conv_only=over([name for name in weights if kinds[name].is_conv]),
        pruned_layers_only=over(set(pruned)),
        all_params=over(layers.keys()),
        layers=dict(layers),
    )
