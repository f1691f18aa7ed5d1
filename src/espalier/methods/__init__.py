"""Methods: how weights get to where they may be; the frozen choice and the handle it makes."""

from espalier._ground.registry import discover
from espalier._ground.world import ALONE as ALONE
from espalier._ground.world import World as World
from espalier.methods._alike import check_alike
from espalier.methods._at_start import SNIP, CutFirst, GraSP, HeldFromStart, HoldFromStart
from espalier.methods._autoprune import AutoPrune
from espalier.methods._certificate import Certificate, Figures, Forced, Outcome, Taken
from espalier.methods._constrained import OWN, Constrained
from espalier.methods._dual_averaging import RDA, SDA, ProxSGD
from espalier.methods._filter_entropy import FilterEntropy
from espalier.methods._freezing import Freezing, GradualFreezing, nearest_of_each_level
from espalier.methods._handle import Handle
from espalier.methods._holding import AfterStep, MaskHolder, hold_
from espalier.methods._in_parts import load_in_parts_, save_in_parts
from espalier.methods._keeping import Keeping, KeepZeros
from espalier.methods._l0 import L0
from espalier.methods._method import Cut, Groups, Method, Setting
from espalier.methods._pruning import Pruning
from espalier.methods._rda import Averaging, DualAveraging
from espalier.methods._recovery import Recovery
from espalier.methods._slimming import Slimmed, Slimming
from espalier.methods._ssl import SSL, Lasso
from espalier.methods._straight_through import Estimator, LeakyReLU, Linear, ReLU, Softplus
from espalier.methods._switching import Switching
from espalier.methods._update import LayerUpdate, Update
from espalier.methods._verdict import Course, certify

__all__ = [
    "ALONE",
    "L0",
    "OWN",
    "RDA",
    "SDA",
    "SNIP",
    "SSL",
    "AfterStep",
    "AutoPrune",
    "Averaging",
    "Certificate",
    "Constrained",
    "Course",
    "Cut",
    "CutFirst",
    "DualAveraging",
    "Estimator",
    "Figures",
    "FilterEntropy",
    "Forced",
    "Freezing",
    "GraSP",
    "GradualFreezing",
    "Groups",
    "Handle",
    "HeldFromStart",
    "HoldFromStart",
    "KeepZeros",
    "Keeping",
    "Lasso",
    "LayerUpdate",
    "LeakyReLU",
    "Linear",
    "MaskHolder",
    "Method",
    "Outcome",
    "ProxSGD",
    "Pruning",
    "ReLU",
    "Recovery",
    "Setting",
    "Slimmed",
    "Slimming",
    "Softplus",
    "Switching",
    "Taken",
    "Update",
    "World",
    "certify",
    "check_alike",
    "hold_",
    "load_in_parts_",
    "nearest_of_each_level",
    "save_in_parts",
]

discover(__name__, globals())
