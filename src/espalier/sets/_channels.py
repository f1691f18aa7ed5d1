"""Whole input channels go."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from espalier.sets._layout import Layout, outputs_inputs, refuse_groups
from espalier.sets._set import GroupSet


@dataclass(frozen=True)
class Channels(GroupSet):
    r"""At most ``keep`` nonzero input channels ``w[:, i]`` of a weight (O, I, \*k).

    .. math:: S = \{z : \#\{i : z_{:i} \ne 0\} \le k\}

    The channels of largest :math:`\sum_{o,a} h_{oia} w_{oia}^2` stay. Unit: an input channel, I of
    them: of a Linear an input feature, of an Embedding a dimension.

    Raises:
        ShapeError: Fewer than two axes, or a grouped convolution.

    Source: Zhang et al. 2018, *StructADMM*, channel pruning.

    Example:
        >>> import torch
        >>> Channels().project(torch.tensor([[3.0, 2.0], [1.0, 2.0]]), keep=1)
        tensor([[3., 0.], [1., 0.]])
    """

    name = "channels"
    unit = "channels"

    def check(self, shape: Sequence[int], *, groups: int = 1) -> None:
        self.layout(shape)
        refuse_groups(groups, self.unit)

    def layout(self, shape: Sequence[int]) -> Layout:
        return Layout((*outputs_inputs(shape, self.unit), prod(shape[2:])), (0, 2))
