"""Methods: how weights get to where they may be; the frozen choice and the handle it makes."""

from espalier._ground.registry import discover
from espalier.methods._certificate import Certificate, LayerUpdate, Outcome, Update, certify
from espalier.methods._constrained import OWN, Constrained, Pruning
from espalier.methods._dual_averaging import RDA, ProxSGD
from espalier.methods._freezing import Freezing, GradualFreezing, nearest_of_each_level
from espalier.methods._holding import AfterStep, MaskHolder, hold_
from espalier.methods._keeping import Keeping, KeepZeros
from espalier.methods._l0 import L0
from espalier.methods._method import Cut, Groups, Handle, Method, Setting
from espalier.methods._rda import Averaging, DualAveraging

__all__ = [
    "L0",
    "OWN",
    "RDA",
    "AfterStep",
    "Averaging",
    "Certificate",
    "Constrained",
    "Cut",
    "DualAveraging",
    "Freezing",
    "GradualFreezing",
    "Groups",
    "Handle",
    "KeepZeros",
    "Keeping",
    "LayerUpdate",
    "MaskHolder",
    "Method",
    "Outcome",
    "ProxSGD",
    "Pruning",
    "Setting",
    "Update",
    "certify",
    "hold_",
    "nearest_of_each_level",
]

discover(__name__, globals())
