"""Solvers: by what dynamics weights reach their sets. One algorithm a file."""

from espalier._ground.registry import discover
from espalier.solvers._admm import ADMM
from espalier.solvers._gradual import Gradual
from espalier.solvers._one_shot import OneShot
from espalier.solvers._penalty import Penalty
from espalier.solvers._rho import ConstantRho, CosineRho, GeometricRho, RhoSchedule, StagedRho
from espalier.solvers._rigl import RigL
from espalier.solvers._schedules import Constant, Cubic, Rounds, Schedule
from espalier.solvers._slr import SLR
from espalier.solvers._slr_released import SLRReleased
from espalier.solvers._solver import (
    Approach,
    Conditions,
    Observed,
    Projector,
    Pulling,
    Solver,
    State,
)

__all__ = [
    "ADMM",
    "SLR",
    "Approach",
    "Conditions",
    "Constant",
    "ConstantRho",
    "CosineRho",
    "Cubic",
    "GeometricRho",
    "Gradual",
    "Observed",
    "OneShot",
    "Penalty",
    "Projector",
    "Pulling",
    "RhoSchedule",
    "RigL",
    "Rounds",
    "SLRReleased",
    "Schedule",
    "Solver",
    "StagedRho",
    "State",
]

discover(__name__, globals())
