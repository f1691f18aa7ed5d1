"""Budgets: from one figure for the model to a keep for each tensor. One rule a file.

A rule is a function of :class:`Layer` by name and a density; the density is over the tensors it is
given, not over the model. ``shared`` gives no keeps but a live budget that all tensors share.
"""

from espalier.budgets._erk import erk
from espalier.budgets._explicit import explicit
from espalier.budgets._for_macs import for_macs
from espalier.budgets._global_magnitude import global_magnitude
from espalier.budgets._layer import Layer
from espalier.budgets._shadow import Shadow
from espalier.budgets._shared import shared, shared_macs
from espalier.budgets._uniform import uniform

__all__ = [
    "Layer",
    "Shadow",
    "erk",
    "explicit",
    "for_macs",
    "global_magnitude",
    "shared",
    "shared_macs",
    "uniform",
]
