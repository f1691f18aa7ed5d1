"""Whole blocks of the GEMM view go."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from espalier.errors import ShapeError
from espalier.sets._layout import Layout, divisors, matrix
from espalier.sets._set import GroupSet


@dataclass(frozen=True)
class Blocks(GroupSet):
    r"""At most ``keep`` nonzero blocks of ``h`` × ``w`` in the matrix (O, I·prod(k)).

    .. math:: S = \{z : \#\{(r, c) : z_{rc} \ne 0\} \le k\}, \; z_{rc} \in \mathbb{R}^{h \times w}

    The blocks of largest :math:`\sum_{i \in rc} h_i w_i^2` stay. Unit: a block, O/h · I·prod(k)/w
    of them, counted row by row.

    Args:
        h: Rows (filters) of a block; must divide O, and O/groups of a grouped convolution.
        w: Columns of a block; must divide I·prod(k).

    Raises:
        RequestError: A side below 1.
        ShapeError: The blocks do not tile the matrix, or fewer than two axes.

    Source: Narang et al. 2017, *Block-sparse recurrent neural networks*; Gray et al. 2017.

    Example:
        >>> import torch
        >>> Blocks(1, 2).project(torch.tensor([[1.0, 2.0, 0.0, 3.0]]), keep=1)
        tensor([[0., 0., 0., 3.]])
    """

    h: Annotated[int, Ge(1)]
    w: Annotated[int, Ge(1)]

    name = "blocks"
    unit = "blocks"
    usable_by = (
        "not used by dense kernels (eager PyTorch, torch.compile, ONNX Runtime); block-sparse "
        "matrix kernels can use large blocks of linear layers: measure"
    )

    def check(self, shape: Sequence[int], *, groups: int = 1) -> None:
        self.layout(shape)
        if groups > 1 and shape[0] // groups % self.h:
            raise ShapeError(
                f"blocks {self.h} filters high span the {groups} groups of {tuple(shape)}, "
                f"which read other inputs; h can be {divisors(shape[0] // groups)}"
            )

    def layout(self, shape: Sequence[int]) -> Layout:
        rows, columns = matrix(shape, self.unit)
        if rows % self.h or columns % self.w:
            raise ShapeError(
                f"blocks of {self.h}×{self.w} do not tile the {rows}×{columns} matrix of "
                f"{tuple(shape)}; h can be {divisors(rows)}; w can be {divisors(columns)}"
            )
        return Layout((rows // self.h, self.h, columns // self.w, self.w), (1, 3))
