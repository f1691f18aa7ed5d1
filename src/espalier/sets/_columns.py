"""Whole columns of the GEMM view go: one position of one input channel, in every filter."""

from collections.abc import Sequence
from dataclasses import dataclass

from espalier.sets._layout import Layout, matrix, refuse_groups
from espalier.sets._set import GroupSet


@dataclass(frozen=True)
class Columns(GroupSet):
    r"""At most ``keep`` nonzero columns ``w[:, i, a, b]`` of a weight (O, I, \*k): filter shapes.

    .. math:: S = \{z : \#\{j : z_{:j} \ne 0\} \le k\}, \qquad j = 1 \dots I \prod k

    The columns of largest :math:`\sum_o h_{oj} w_{oj}^2` stay. Unit: a column, I·prod(k) of them;
    of a Linear or a 1×1 convolution the columns are the channels.

    Raises:
        ShapeError: Fewer than two axes, or a grouped convolution.

    Source: Wen et al. 2016, *Learning structured sparsity* (filter shapes); Ma et al. 2019 (P-RM,
    arXiv 1905.00136), column pruning.

    Example:
        >>> import torch
        >>> Columns().project(torch.tensor([[[3.0, 2.0]], [[1.0, 2.0]]]), keep=1)
        tensor([[[3., 0.]], [[1., 0.]]])
    """

    name = "columns"
    unit = "columns"

    def check(self, shape: Sequence[int], *, groups: int = 1) -> None:
        self.layout(shape)
        refuse_groups(groups, self.unit)

    def layout(self, shape: Sequence[int]) -> Layout:
        return Layout(matrix(shape, self.unit), (0,))
