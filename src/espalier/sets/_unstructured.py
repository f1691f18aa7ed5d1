"""Any weight may go: irregular sparsity."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from espalier.sets._energy import magnitude
from espalier.sets._layout import Layout
from espalier.sets._set import GroupSet


@dataclass(frozen=True)
class Unstructured(GroupSet):
    r"""At most ``keep`` nonzero weights, anywhere in a tensor of any shape.

    .. math:: S = \{z : \|z\|_0 \le k\}

    The weights of largest :math:`\sqrt{h_i}\,|w_i|` stay. Unit: a weight.

    Source: Zhang et al. 2018, *A systematic DNN weight pruning framework using ADMM*;
    Gurevin et al. 2021, *Enabling retrain-free deep neural network pruning using surrogate
    Lagrangian relaxation*, eqs. (6)-(7). Their code thresholds at a percentile, which is inexact on
    ties; we count.

    Example:
        >>> import torch
        >>> Unstructured().project(torch.tensor([[3.0, -1.0], [1.0, -2.0]]), keep=3)
        tensor([[ 3., -1.], [ 0., -2.]])
    """

    name = "unstructured"
    unit = "weights"

    def layout(self, shape: Sequence[int]) -> Layout:
        return Layout(tuple(shape), ())

    def rank(self, w: Tensor, metric: Tensor | None = None) -> tuple[Tensor, None]:
        return magnitude(w, metric).flatten(), None
