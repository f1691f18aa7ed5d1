"""Solvers: by what dynamics weights reach their sets. One algorithm a file."""

from espalier.solvers._solver import Conditions, Constraint, Solver, State
from espalier.solvers.admm import ADMM
from espalier.solvers.gradual import Gradual
from espalier.solvers.one_shot import OneShot
from espalier.solvers.penalty import Penalty
from espalier.solvers.rho import ConstantRho, GeometricRho, RhoSchedule, StagedRho
from espalier.solvers.schedules import Constant, Cubic, Rounds, Schedule
from espalier.solvers.slr import SLR
from espalier.solvers.slr_released import SLRReleased

__all__ = [
    "ADMM",
    "SLR",
    "Conditions",
    "Constant",
    "ConstantRho",
    "Constraint",
    "Cubic",
    "GeometricRho",
    "Gradual",
    "OneShot",
    "Penalty",
    "RhoSchedule",
    "Rounds",
    "SLRReleased",
    "Schedule",
    "Solver",
    "StagedRho",
    "State",
]
