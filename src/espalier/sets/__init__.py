"""Sets: what shape of sparsity a tensor may have. One set a file; imports torch alone."""

from espalier.sets._set import GroupSet, Set
from espalier.sets.unstructured import Unstructured

__all__ = ["GroupSet", "Set", "Unstructured"]
