"""Sets: what shape of sparsity a tensor may have. One set a file; imports torch alone.

=====================  ======================================  =========================
set                    unit                                    fits
=====================  ======================================  =========================
``Unstructured``       a weight                                any tensor
``Filters``            ``w[o]``                                (O, I, …)
``Channels``           ``w[:, i]``                             (O, I, …), not grouped
``Columns``            ``w[:, i, a, b]``                       (O, I, …), not grouped
``FiltersAndColumns``  a filter and a column                   (O, I, …), not grouped
``Kernels``            ``w[o, i]``                             convolutions
``KernelPatterns``     ``w[o, i]`` with at most 5 of 9         3×3 convolutions
``NOfM(n, m)``         m inputs with at most n nonzeros        m divides I
``Blocks(h, w)``       h × w of the matrix (O, I·prod(k))      h divides O, w the rest
=====================  ======================================  =========================

``Shared`` is one budget over several tensors: their units compete. ``Coupled`` units run through
several tensors, and live or go as one. ``Levels(bits)`` says which values the weights that stay may
have: it quantises.
"""

from espalier.sets._blocks import Blocks
from espalier.sets._channels import Channels
from espalier.sets._columns import Columns
from espalier.sets._coupled import Along, Coupled
from espalier.sets._filters import Filters
from espalier.sets._filters_and_columns import FiltersAndColumns
from espalier.sets._kernel_patterns import KernelPatterns
from espalier.sets._kernels import Kernels
from espalier.sets._levels import Levels
from espalier.sets._n_of_m import NOfM
from espalier.sets._names import NAMES, parse
from espalier.sets._set import GroupSet, Set
from espalier.sets._shared import Shared
from espalier.sets._unstructured import Unstructured

__all__ = [
    "NAMES",
    "Along",
    "Blocks",
    "Channels",
    "Columns",
    "Coupled",
    "Filters",
    "FiltersAndColumns",
    "GroupSet",
    "KernelPatterns",
    "Kernels",
    "Levels",
    "NOfM",
    "Set",
    "Shared",
    "Unstructured",
    "parse",
]
