"""Methods: how weights get to where they may be."""

from espalier.methods._certificate import Certificate, LayerUpdate, Outcome, Update, certify
from espalier.methods._freezing import Freezing, nearest_of_each_level
from espalier.methods._holding import AfterStep, MaskHolder, hold_
from espalier.methods._pruning import Pruning
from espalier.methods._quantising import Quantisation, SparseAndQuantised, quantise_plan

__all__ = [
    "AfterStep",
    "Certificate",
    "Freezing",
    "LayerUpdate",
    "MaskHolder",
    "Outcome",
    "Pruning",
    "Quantisation",
    "SparseAndQuantised",
    "Update",
    "certify",
    "hold_",
    "nearest_of_each_level",
    "quantise_plan",
]
