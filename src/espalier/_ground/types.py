"""The aliases every module shares."""

from collections.abc import Mapping

from torch import Tensor

Keep = int | tuple[int, int]
"""A count of units that may stay; a pair only for ``FiltersAndColumns`` (filters, columns)."""

Weights = Mapping[str, Tensor]
"""Tensors by parameter name, as in ``model.named_parameters()``."""

Masks = Mapping[str, Tensor]
"""Boolean tensors by parameter name, shape of the parameter; True: it may be nonzero, or may move."""
