"""Sets: what shape of sparsity a tensor may have. A new file here is a new set; imports torch alone.

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

A ``Constraint`` says what the weights of a model may be, all tensors together. ``Product`` is one made of
parts over disjoint tensors: ``Alone`` (a set and a keep), ``Shared`` (one budget, the units of several
tensors compete), ``Coupled`` (units that run through several tensors, and live or go as one). ``Within``
masks lie the survivors of what is pruned already. ``OnLevels`` puts what any of these leaves on
``Levels(bits)``: it quantises.
"""

from espalier._ground.registry import discover
from espalier.sets._alone import Alone
from espalier.sets._along import Along
from espalier.sets._blocks import Blocks
from espalier.sets._constraint import Constraint as Constraint
from espalier.sets._coupled import Coupled
from espalier.sets._filters_and_columns import FiltersAndColumns
from espalier.sets._kernel_patterns import KernelPatterns
from espalier.sets._layout import Layout
from espalier.sets._levels import Levels
from espalier.sets._n_of_m import NOfM
from espalier.sets._names import NAMES, parse
from espalier.sets._on_levels import OnLevels
from espalier.sets._priced import Priced
from espalier.sets._product import Part, Product
from espalier.sets._set import GroupSet, Set
from espalier.sets._sharded import Sharded
from espalier.sets._shared import Shared
from espalier.sets._tilings import Channels, Columns, Filters, Kernels, Unstructured
from espalier.sets._within import Within

__all__ = [
    "NAMES",
    "Alone",
    "Along",
    "Blocks",
    "Channels",
    "Columns",
    "Constraint",
    "Coupled",
    "Filters",
    "FiltersAndColumns",
    "GroupSet",
    "KernelPatterns",
    "Kernels",
    "Layout",
    "Levels",
    "NOfM",
    "OnLevels",
    "Part",
    "Priced",
    "Product",
    "Set",
    "Sharded",
    "Shared",
    "Unstructured",
    "Within",
    "parse",
]

discover(__name__, globals())
