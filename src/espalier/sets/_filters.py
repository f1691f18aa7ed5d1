"""Whole filters go: output channels of a convolution, neurons of a Linear, rows of an Embedding."""

from collections.abc import Sequence
from dataclasses import dataclass

from espalier.sets._layout import Layout, matrix
from espalier.sets._set import GroupSet


@dataclass(frozen=True)
class Filters(GroupSet):
    r"""At most ``keep`` nonzero filters ``w[o]`` of a weight (O, I, \*k).

    .. math:: S = \{z : \#\{o : z_o \ne 0\} \le k\}

    The filters of largest :math:`\sum_i h_{oi} w_{oi}^2` stay. Unit: a filter, O of them; grouped
    and depthwise convolutions, Linear and Embedding included.

    Raises:
        ShapeError: Fewer than two axes.

    Source: Zhang et al. 2018, *StructADMM*, filter pruning; Li et al. 2017, *Pruning filters for
    efficient ConvNets* (there the l1 norm; the nearest point needs the Euclidean one).

    Example:
        >>> import torch
        >>> Filters().project(torch.tensor([[3.0, 4.0], [1.0, 0.0]]), keep=1)
        tensor([[3., 4.], [0., 0.]])
    """

    name = "filters"
    unit = "filters"

    def layout(self, shape: Sequence[int]) -> Layout:
        return Layout(matrix(shape, self.unit), (1,))
