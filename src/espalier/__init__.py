"""Espalier: prune neural networks by constrained optimisation."""

from espalier.certificate import Certificate, Outcome
from espalier.metrics import Activations, AdamMoment, Fisher, Identity
from espalier.plan import Plan, plan
from espalier.pruning import Pruning
from espalier.solvers import (
    ADMM,
    SLR,
    Constant,
    Cubic,
    GeometricRho,
    Gradual,
    OneShot,
    Penalty,
    Rounds,
    StagedRho,
)

__version__ = "0.1.0"

__all__ = [
    "ADMM",
    "SLR",
    "Activations",
    "AdamMoment",
    "Certificate",
    "Constant",
    "Cubic",
    "Fisher",
    "GeometricRho",
    "Gradual",
    "Identity",
    "OneShot",
    "Outcome",
    "Penalty",
    "Plan",
    "Pruning",
    "Rounds",
    "StagedRho",
    "plan",
]
