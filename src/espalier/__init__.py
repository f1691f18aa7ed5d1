"""Espalier: prune neural networks by constrained optimisation.

The names here are those of the road from a model to a smaller one; all else lies in the submodules. Everything
is imported when it is first used, so that ``espalier --help`` need not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from espalier.artifact import load as load
    from espalier.artifact import save as save
    from espalier.compaction import compact as compact
    from espalier.compaction import purify as purify
    from espalier.methods import Constrained as Constrained
    from espalier.methods import Pruning as Pruning
    from espalier.packing import pack as pack
    from espalier.packing import unpack as unpack
    from espalier.planning import Plan as Plan
    from espalier.planning import plan as plan
    from espalier.planning import quantise_plan as quantise_plan
    from espalier.search import plan_for_latency as plan_for_latency
    from espalier.solvers import ADMM as ADMM
    from espalier.solvers import SLR as SLR
    from espalier.solvers import Gradual as Gradual
    from espalier.solvers import OneShot as OneShot
    from espalier.solvers import Penalty as Penalty
    from espalier.training import fit as fit

__version__ = "0.1.0"

_NAMES = {
    "artifact": ("load", "save"),
    "budgets": (),
    "compaction": ("compact", "purify"),
    "data": (),
    "errors": (),
    "graph": (),
    "integrations": (),
    "measure": (),
    "methods": ("Constrained", "Pruning"),
    "metrics": (),
    "models": (),
    "packing": ("pack", "unpack"),
    "planning": ("Plan", "plan", "quantise_plan"),
    "report": (),
    "runs": (),
    "search": ("plan_for_latency",),
    "sets": (),
    "solvers": ("ADMM", "SLR", "Gradual", "OneShot", "Penalty"),
    "tasks": (),
    "training": ("fit",),
}
"""The submodules, and what of each is at hand here."""
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Import what is asked for, and keep it."""
    if name in _HOME:
        found: Any = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    elif name in _NAMES:
        found = import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{_hint(name)}")
    globals()[name] = found
    return found


def _hint(name: str) -> str:
    """Where a name went that was at hand here in version 0.1."""
    for module in ("solvers", "metrics", "methods", "search"):
        if not name.startswith("_") and hasattr(import_module(f"{__name__}.{module}"), name):
            return f"; it is {__name__}.{module}.{name}"
    return ""


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_NAMES})
