"""What a task of loaders refuses before anything starts."""

from collections.abc import Mapping
from typing import Any

from torch.utils.data import DataLoader

from espalier.errors import RequestError
from espalier.tasks._figures import Figure
from espalier.tasks._task import Goal


def check_loaders(train: Any, test: Any) -> int:
    """Batches of the train loader.

    Raises:
        RequestError: Not two loaders with a length and a batch, or the test loader drops samples.
    """
    steps = _length("train", train)
    _length("test", test)
    sampler = test.batch_sampler
    size = getattr(sampler, "batch_size", 0)
    samples = getattr(sampler, "length", None) or len(getattr(sampler, "sampler", ()) or ())
    if size and getattr(sampler, "drop_last", False) and samples % size:
        raise RequestError(
            f"the test loader leaves out {samples % size} of {samples} samples; make it with "
            "drop_last=False"
        )
    return steps


def _length(name: str, loader: Any) -> int:
    if not isinstance(loader, DataLoader):
        raise RequestError(
            f"{name} is a {type(loader).__name__}; give a torch.utils.data.DataLoader, such as "
            "espalier.tasks.seeded_loader(dataset, batch_size, seed)"
        )
    try:
        length = len(loader)
    except (TypeError, NotImplementedError) as error:
        raise RequestError(
            f"the {name} loader has no length ({error}); give its data set a __len__, for a run has to "
            "know its steps"
        ) from error
    if not length:
        raise RequestError(f"the {name} loader has no batch; give it samples, or smaller batches")
    return length


def check_metrics(metrics: Mapping[str, Any]) -> dict[str, Figure]:
    """The metrics.

    Raises:
        RequestError: One without the protocol, or with the name of the loss.
    """
    for name, metric in metrics.items():
        missing = [
            method
            for method in ("update", "compute", "reset")
            if not callable(getattr(metric, method, None))
        ]
        if missing:
            raise RequestError(
                f"metric {name!r} is a {type(metric).__name__} without {', '.join(missing)}; give an "
                "object with update(preds, target), compute() and reset(), as torchmetrics has them"
            )
    if "loss" in metrics:
        raise RequestError("a metric named 'loss' would hide the loss itself; give it another name")
    return dict(metrics)


def default_goal(metrics: Mapping[str, Any], built_in: bool) -> Goal:
    """The first metric, in the direction it names itself; the loss if there is none."""
    if built_in:
        return Goal()
    if not metrics:
        return Goal(name="loss", unit="", higher_is_better=False)
    name, metric = next(iter(metrics.items()))
    higher = getattr(metric, "higher_is_better", None)
    return Goal(name=name, unit="", higher_is_better=higher is not False)
