"""At most n nonzeros in every m weights along the input axis."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from espalier.errors import RequestError, ShapeError
from espalier.sets._layout import Layout, divisors, outputs_inputs
from espalier.sets._set import GroupSet

_TWO_OF_FOUR = (
    "NVIDIA sparse tensor cores, Ampere and later, for linear layers in half precision "
    "(torch.sparse.to_sparse_semi_structured, TensorRT): measure, gains depend on the shapes; "
    "CPUs and ONNX Runtime run it at dense speed"
)


@dataclass(frozen=True)
class NOfM(GroupSet):
    r"""At most ``n`` nonzeros in each group of ``m`` consecutive inputs, at most ``keep`` groups.

    .. math:: S = \{z : \|z_g\|_0 \le n \;\forall g,\; \#\{g : z_g \ne 0\} \le k\}

    Groups run along the input axis of (O, I/groups, \*k), as sparse tensor cores want it. In a
    group the n weights of largest :math:`h_i w_i^2` stay, of equals the first; then the groups that
    retain most stay. Unit: a group of m, numel/m of them; the largest ``keep`` is plain N:M
    sparsity.

    Args:
        n: Weights of a group that may be nonzero, 1 <= n <= m.
        m: Weights in a group; must divide I/groups.

    Raises:
        RequestError: n and m that are no N:M.
        ShapeError: m does not divide the input axis, or fewer than two axes.

    Source: Zhou et al. 2021, *Learning N:M fine-grained structured sparse neural networks from
    scratch*; Mishra et al. 2021, *Accelerating sparse deep neural networks*.

    Example:
        >>> import torch
        >>> NOfM(2, 4).project(torch.tensor([[1.0, -3.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0]]), keep=2)
        tensor([[ 0., -3., 2., 0., 1., 1., 0., 0.]])
    """

    n: Annotated[int, Ge(1)]
    m: Annotated[int, Ge(1)]

    name = "n_of_m"
    unit = "groups"
    usable_by = "no stock runtime uses this N:M (NVIDIA sparse tensor cores want 2:4); storage only"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.n <= self.m:
            raise RequestError(f"n_of_m: n={self.n}, m={self.m}; give 1 <= n <= m")
        if (self.n, self.m) == (2, 4):
            object.__setattr__(self, "usable_by", _TWO_OF_FOUR)

    def layout(self, shape: Sequence[int]) -> Layout:
        outputs, inputs = outputs_inputs(shape, self.unit)
        if inputs % self.m:
            raise ShapeError(
                f"groups of m={self.m} do not divide the input axis of {tuple(shape)}; "
                f"m can be {divisors(inputs)}"
            )
        return Layout((outputs, inputs // self.m, self.m, prod(shape[2:])), (2,))

    def unit_nonzeros(self, shape: Sequence[int]) -> int:
        self.layout(shape)
        return self.n

    def inside(self, e: Tensor) -> Tensor:
        # A weight stays if fewer than n of its group beat it: an earlier one does on a tie.
        stays = torch.empty(e.shape, dtype=torch.bool, device=e.device)
        for i in range(self.m):
            here = e[:, :, i : i + 1]
            better = (e[:, :, :i] >= here).sum(2) + (e[:, :, i + 1 :] > here).sum(2)
            stays[:, :, i] = better < self.n
        return stays

    def fits_inside(self, nonzero: Tensor) -> bool:
        return not bool((nonzero.sum(2) > self.n).any())
