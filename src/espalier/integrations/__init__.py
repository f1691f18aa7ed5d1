"""Espalier in other people's trainers, and its events in their loggers.

Each is one line there; all of them stand on :meth:`espalier.Pruning.attach`, which is also all that Accelerate,
Fabric and a loop of one's own need. The libraries are imported when a name is asked for.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from espalier.errors import RequestError
from espalier.integrations._logging import to_logger, to_tensorboard

if TYPE_CHECKING:
    from espalier.integrations._hugging_face import TrainerPruning as TrainerPruning
    from espalier.integrations._lightning import LightningPruning as LightningPruning

_LAZY = {
    "TrainerPruning": ("_hugging_face", ("transformers",), "hf"),
    "LightningPruning": ("_lightning", ("lightning", "pytorch_lightning"), "lightning"),
}
"""Name -> its module, the libraries one of which it needs, and the extra that brings it."""

__all__ = ["LightningPruning", "TrainerPruning", "to_logger", "to_tensorboard"]


def __getattr__(name: str) -> Any:
    """Import what is asked for, and keep it.

    Raises:
        RequestError: Its library is not installed.
    """
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, libraries, extra = _LAZY[name]
    if not any(find_spec(library) for library in libraries):
        raise RequestError(f"{name} needs {libraries[0]}; pip install 'espalier[{extra}]'")
    found = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
