r"""The sets whose units tile a tensor in the plain way: single weights, and its rows, columns and fibres.

Of a weight (O, I, \*k), with prod(k) positions a kernel, one unit of

- ``Unstructured`` is a weight,
- ``Filters`` a row of the GEMM view (O, I·prod(k)),
- ``Channels`` all that reads one input channel,
- ``Columns`` a column of the GEMM view,
- ``Kernels`` what joins one input channel to one filter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from torch import Tensor

from espalier.errors import ShapeError
from espalier.sets._energy import Peaks, magnitude
from espalier.sets._layout import Layout, matrix, outputs_inputs, refuse_groups
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
    usable_by = (
        "no speed-up in eager PyTorch, torch.compile or ONNX Runtime, whose dense "
        "kernels multiply by the zeros; it saves storage only (linear layers beyond their "
        "break-even can run as sparse rows: espalier.measure.break_even)"
    )
    any_layout = True

    def layout(self, shape: Sequence[int]) -> Layout:
        return Layout(tuple(shape), ())

    def rank(
        self, w: Tensor, metric: Tensor | None = None, peaks: Peaks | None = None
    ) -> tuple[Tensor, None]:
        return magnitude(w, metric, peaks).flatten(), None


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
    usable_by = "faster on every runtime once compacted: whole filters are physically removed"

    def layout(self, shape: Sequence[int]) -> Layout:
        return Layout(matrix(shape, self.unit), (1,))


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
    usable_by = "faster on every runtime once compacted: whole channels are physically removed"

    def check(self, shape: Sequence[int], *, groups: int = 1) -> None:
        self.layout(shape)
        refuse_groups(groups, self.unit)

    def layout(self, shape: Sequence[int]) -> Layout:
        return Layout((*outputs_inputs(shape, self.unit), prod(shape[2:])), (0, 2))


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
    usable_by = (
        "faster where all columns of a channel go, once compacted; kernels are cropped to the "
        "positions left, and what is scattered in them can be gathered (espalier compact --gather), "
        "which is faster for wide layers only: measure"
    )

    def check(self, shape: Sequence[int], *, groups: int = 1) -> None:
        self.layout(shape)
        refuse_groups(groups, self.unit)

    def layout(self, shape: Sequence[int]) -> Layout:
        return Layout(matrix(shape, self.unit), (0,))


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
    usable_by = (
        "no stock runtime skips single kernels; it saves storage only, unless all kernels of "
        "a filter or a channel go"
    )
    any_layout = True

    def layout(self, shape: Sequence[int]) -> Layout:
        if len(shape) < 3:
            raise ShapeError(
                f"a tensor of shape {tuple(shape)} has no kernels; "
                "give a convolution (O, I, ...), or use Unstructured"
            )
        return Layout((shape[0] * shape[1], prod(shape[2:])), (1,))
