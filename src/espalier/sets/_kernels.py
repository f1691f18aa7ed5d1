"""Whole kernels go: the connection of one input channel to one filter."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from espalier.errors import ShapeError
from espalier.sets._layout import Layout
from espalier.sets._set import GroupSet


@dataclass(frozen=True)
class Kernels(GroupSet):
    r"""At most ``keep`` nonzero kernels ``w[o, i]`` of a convolution (O, I/groups, \*k).

    .. math:: S = \{z : \#\{(o, i) : z_{oi} \ne 0\} \le k\}

    The kernels of largest :math:`\sum_a h_{oia} w_{oia}^2` stay. Unit: a kernel, O·I/groups of
    them; of a depthwise convolution the kernels are the filters.

    Raises:
        ShapeError: Fewer than three axes: a Linear has no kernels.

    Source: Niu et al. 2020, *PatDNN*, connectivity pruning.

    Example:
        >>> import torch
        >>> Kernels().project(torch.tensor([[[3.0, 0.0], [1.0, 2.0]]]), keep=1)
        tensor([[[3., 0.], [0., 0.]]])
    """

    name = "kernels"
    unit = "kernels"

    def layout(self, shape: Sequence[int]) -> Layout:
        if len(shape) < 3:
            raise ShapeError(
                f"a tensor of shape {tuple(shape)} has no kernels; "
                "give a convolution (O, I, ...), or use Unstructured"
            )
        return Layout((shape[0] * shape[1], prod(shape[2:])), (1,))
