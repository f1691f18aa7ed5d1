"""Quantisation of what pruning left: the constraint, gradual freezing, the search for bits."""

from espalier.quantisation.constraint import (
    Quantisation,
    SparseAndQuantised,
    quantise_plan,
)
from espalier.quantisation.freezing import Freezing, nearest_of_each_level
from espalier.quantisation.search import BitSearch, Trial, search_bits

__all__ = [
    "BitSearch",
    "Freezing",
    "Quantisation",
    "SparseAndQuantised",
    "Trial",
    "nearest_of_each_level",
    "quantise_plan",
    "search_bits",
]
