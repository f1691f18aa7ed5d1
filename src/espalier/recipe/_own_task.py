"""A task that a recipe names: one of ours, or the user's own function, and what it must return."""

import inspect
from typing import Any

import torch
from pydantic import Field

from espalier._ground.importing import call
from espalier.errors import RequestError, UnknownNameError, nearest
from espalier.models import import_object
from espalier.recipe._part import Section
from espalier.recipe._paths import expanded
from espalier.recipe._sections import Part, TrainingSection
from espalier.tasks import NAMES, Task


class TaskSection(Section):
    """What it learns, in place of `data`: one of `espalier data`, or a function that returns an espalier.tasks.Task."""

    name: str
    """`image_folder`, `detection`, or `package.module:function`; it receives training.seed, training.batch_size and
    training.device as `seed`, `batch_size` and `device` if it has arguments of these names."""
    path: str | None = None
    """Where its files are, handed on as `path`; `~` and `${VAR}` are expanded."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Handed to the function, such as `length: 128`."""
    validation: Part | None = None
    """Judge the run on so many training samples, held out, in place of the test data: a fraction or a count; for
    tasks that can (`validating`)."""


def make_own_task(section: TaskSection, training: TrainingSection, device: torch.device) -> Task:
    """What the function returns, checked against the protocol.

    Args:
        section: The function, and the arguments it is given.
        training: Offers ``seed`` and ``batch_size``; the section's own arguments come first.
        device: Offered as ``device``.

    Raises:
        RequestError: No such function, arguments that do not fit, or no task.
    """
    if section.name in NAMES:
        function: Any = NAMES[section.name].function
    elif ":" in section.name:
        function = import_object(section.name)
    else:
        hint = nearest(section.name, NAMES)
        raise UnknownNameError(f"no task {section.name!r}; {hint}, or package.module:function")
    offered = {"seed": training.seed, "batch_size": training.batch_size, "device": device}
    taken = inspect.signature(function).parameters if callable(function) else {}
    given = {name: value for name, value in offered.items() if name in taken}
    if section.path is not None:
        given["path"] = expanded(section.path)
    elif (
        section.name in NAMES
        and "path" not in section.arguments
        and taken["path"].default is inspect.Parameter.empty
    ):
        raise RequestError(f"the task {section.name} needs a path. {NAMES[section.name].source}")
    made = call(function, section.name, **{**given, **section.arguments})
    # Looked up without being asked: an example input may cost a batch.
    missing = [name for name in vars(Task) if not name.startswith("_") and not _has(made, name)]
    if missing:
        raise RequestError(
            f"{section.name} returned a {type(made).__name__} without {', '.join(missing)}; return an "
            "espalier.tasks.Task, such as tasks.FromLoaders(train, test, loss=…)"
        )
    task: Task = made
    return task


def _has(made: Any, name: str) -> bool:
    absent = object()
    return inspect.getattr_static(made, name, absent) is not absent
