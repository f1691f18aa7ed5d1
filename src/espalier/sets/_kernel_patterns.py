"""Every 3×3 kernel keeps one of thirteen patterns of five weights, or goes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from espalier.errors import ShapeError
from espalier.sets._layout import Layout
from espalier.sets._set import GroupSet

ZEROS = (
    (0, 2, 6, 8), (0, 1, 7, 8), (0, 1, 6, 7), (0, 1, 3, 4), (2, 3, 5, 6), (0, 3, 5, 8),
    (1, 2, 6, 7), (1, 2, 7, 8), (3, 5, 6, 8), (0, 2, 3, 5), (4, 5, 7, 8), (3, 4, 6, 7),
    (1, 2, 4, 5),
)  # fmt: skip
"""What each pattern sets to zero, as indices into a kernel read row by row."""

STAYS = tuple(tuple(a for a in range(9) if a not in zeros) for zeros in ZEROS)
"""What each pattern lets stay."""


@dataclass(frozen=True)
class KernelPatterns(GroupSet):
    r"""At most ``keep`` nonzero kernels of a 3×3 convolution, each within one of thirteen patterns.

    .. math:: S = \{z : \#\{(o, i) : z_{oi} \ne 0\} \le k,\;
              \forall (o, i)\, \exists p : \operatorname{supp} z_{oi} \subseteq P_p\}

    A kernel's pattern is the one that retains most of :math:`\sum_a h_a w_a^2` (of equals the first
    in ``STAYS``), then the kernels that retain most stay. Unit: a kernel, O·I/groups of them; with
    all of them kept, 5/9 of the weights may be nonzero.

    Raises:
        ShapeError: Not a weight (O, I/groups, 3, 3).

    Source: Gurevin et al. 2021 and Niu et al. 2020 (*PatDNN*); the table is that of the SLR
    authors' code, whose pattern pruning always keeps every kernel.

    Example:
        >>> import torch
        >>> KernelPatterns().project(torch.arange(1.0, 10.0).reshape(1, 1, 3, 3), keep=1)
        tensor([[[[0., 0., 3.], [0., 0., 6.], [7., 8., 9.]]]])
    """

    name = "kernel_patterns"
    unit = "kernels"
    usable_by = (
        "no stock runtime uses patterns (compilers made for them do); in eager "
        "PyTorch, torch.compile and ONNX Runtime it saves storage only"
    )
    any_layout = True

    def layout(self, shape: Sequence[int]) -> Layout:
        if len(shape) != 4 or tuple(shape[2:]) != (3, 3):
            raise ShapeError(
                f"patterns are for 3×3 kernels (O, I, 3, 3), not {tuple(shape)}; use Kernels"
            )
        return Layout((shape[0] * shape[1], 9), (1,))

    def unit_nonzeros(self, shape: Sequence[int]) -> int:
        self.layout(shape)
        return 5

    def inside(self, e: Tensor) -> Tensor:
        by_position = e.T.contiguous()
        # In float64, as the scores of units are: patterns that retain the same tie, and the first is taken.
        retained = torch.stack([by_position[list(s)].sum(0, dtype=torch.float64) for s in STAYS])
        return self._table(e.device)[retained.argmax(0)]

    def fits_inside(self, nonzero: Tensor) -> bool:
        # A kernel fits a pattern if it has no nonzero outside it.
        outside = torch.stack([nonzero[:, zeros].any(1) for zeros in ZEROS], 1)
        return not bool(outside.all(1).any())

    @staticmethod
    def _table(device: torch.device) -> Tensor:
        """The patterns as booleans (13, 9), True where a weight may stay."""
        return torch.tensor([[a in stays for a in range(9)] for stays in STAYS], device=device)
