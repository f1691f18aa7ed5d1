"""Espalier: prune neural networks by constrained optimisation.

Everything here is imported when it is first used, so that ``espalier --help`` need not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from espalier.artifact import load, save
    from espalier.compaction import compact, purify
    from espalier.methods import (
        Certificate,
        Freezing,
        Outcome,
        Pruning,
        SparseAndQuantised,
        quantise_plan,
    )
    from espalier.metrics import Activations, AdamMoment, Fisher, Identity
    from espalier.packing import pack, unpack
    from espalier.planning import Plan, plan
    from espalier.search import plan_for_latency, search_bits
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
    from espalier.training import fit

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
    "Freezing",
    "GeometricRho",
    "Gradual",
    "Identity",
    "OneShot",
    "Outcome",
    "Penalty",
    "Plan",
    "Pruning",
    "Rounds",
    "SparseAndQuantised",
    "StagedRho",
    "compact",
    "fit",
    "load",
    "pack",
    "plan",
    "plan_for_latency",
    "purify",
    "quantise_plan",
    "save",
    "search_bits",
    "unpack",
]

_HOMES = {
    "espalier.artifact": ("load", "save"),
    "espalier.compaction": ("compact", "purify"),
    "espalier.methods": (
        *("Certificate", "Freezing", "Outcome", "Pruning", "SparseAndQuantised", "quantise_plan"),
    ),
    "espalier.metrics": ("Activations", "AdamMoment", "Fisher", "Identity"),
    "espalier.packing": ("pack", "unpack"),
    "espalier.planning": ("Plan", "plan"),
    "espalier.search": ("plan_for_latency", "search_bits"),
    "espalier.solvers": (
        *("ADMM", "SLR", "Constant", "Cubic", "GeometricRho", "Gradual", "OneShot", "Penalty"),
        *("Rounds", "StagedRho"),
    ),
    "espalier.training": ("fit",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
_MODULES = {
    *("artifact", "budgets", "compaction", "data", "errors", "graph", "measure", "methods"),
    *("metrics", "models", "packing", "planning", "report", "runs", "search", "sets", "solvers"),
    *("tasks", "training"),
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, and keep it."""
    if name in _HOME:
        found: Any = getattr(import_module(_HOME[name]), name)
    elif name in _MODULES:
        found = import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
