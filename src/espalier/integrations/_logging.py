"""The numbers of a run's events, for a logger of somebody else's."""

import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from espalier._ground.events import Event, OnEvent
from espalier.errors import RequestError, shown
from espalier.methods import Update

Log = Callable[[dict[str, float], int], object]
_NO_FIGURES = ("event", "phase", "step", "steps", "epoch", "epochs", "time", "layers", "k")


def to_logger(logger: Any) -> OnEvent:
    """Send the numbers of events to a logger; for ``on_event=``.

    An epoch's are named ``prune/loss``, ``prune/metrics/accuracy`` …, an update's ``prune/update/rho``,
    ``prune/update/violation`` and ``prune/update/violation/conv1.weight``; a loop without phases leaves out the
    ``prune``. Steps are counted on through the phases.

    Args:
        logger: An object with ``log(dict, step)``, as a run of Weights & Biases is; or with ``log_metrics(dict,
            step)``, as ``mlflow`` is and Lightning's loggers are; or such a function itself.

    Raises:
        RequestError: It is none of them.

    Example:
        >>> tell = to_logger(lambda figures, step: print(step, figures))
        >>> tell({"event": "epoch", "phase": "prune", "epoch": 1, "step": 30, "loss": 0.5, "metrics": {"accuracy": 1}})
        30 {'prune/loss': 0.5, 'prune/metrics/accuracy': 1.0}
    """
    log = getattr(logger, "log", None) or getattr(logger, "log_metrics", None) or logger
    if not callable(log):
        raise RequestError(
            f"logger={shown(logger)}; give an object with log(dict, step) or log_metrics(dict, step), or a function"
        )
    return _Sender(log)


def to_tensorboard(folder: str | os.PathLike[str]) -> OnEvent:
    """Send the numbers of events to TensorBoard's files in a folder; for ``on_event=``.

    Raises:
        RequestError: TensorBoard is not installed.
    """
    if find_spec("tensorboard") is None:
        raise RequestError("to_tensorboard needs tensorboard; pip install 'espalier[track]'")
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(os.fspath(folder))

    def log(figures: dict[str, float], step: int) -> None:
        for name, value in figures.items():
            writer.add_scalar(name, value, step)
        writer.flush()  # a run may be killed at any time

    return _Sender(log)


class _Sender:
    """Adds up the steps of phases, which each begin at 0."""

    def __init__(self, log: Log) -> None:
        self._log, self._phase, self._before, self._last = log, "", 0, 0

    def __call__(self, event: Event) -> None:
        phase = event.get("phase", "")
        if phase != self._phase:
            self._phase, self._before = phase, self._before + self._last
        self._last = event.get("step", 0)
        figures = dict(_figures(event))
        if figures:
            prefix = f"{phase}/" if phase else ""
            named = {prefix + name: value for name, value in figures.items()}
            self._log(named, self._before + self._last)


def _figures(event: Event) -> list[tuple[str, float]]:
    if event["event"] == "epoch":
        return _numbers(event)
    if event["event"] != "update":
        return []
    update = Update.from_event(event)
    found = [*_numbers(event, "update/"), ("update/violation", update.violation)]
    for name, layer in update.layers.items():
        share = layer.violation / layer.weight if layer.weight else 0.0
        found.append((f"update/violation/{name}", share))
    return found


def _numbers(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """All numbers under their paths; of an update without a loss, none of that."""
    found = []
    for name, value in tree.items():
        if name in _NO_FIGURES:
            continue
        if isinstance(value, Mapping):
            found += _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            found.append((prefix + name, float(value)))
    return found
