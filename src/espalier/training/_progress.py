"""What a run shows of itself while it goes: a bar on a terminal, plain lines elsewhere."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from espalier._ground.events import Event, OnEvent
from espalier.tasks import Goal

_ACCURACY = Goal()


@contextmanager
def show_progress(console: Console | None = None, goal: Goal = _ACCURACY) -> Iterator[OnEvent]:
    """A callback for ``on_event`` that shows the run on a console until the block ends.

    A line for each phase, epoch and resume; on a terminal a bar besides, which goes at the end.

    Args:
        console: Where to; standard error if None, so that standard output stays for answers.
        goal: The figure that lines show, in its unit: ``task.goal``.

    Example:
        >>> import sys
        >>> with show_progress(Console(file=sys.stdout, width=80)) as on_event:
        ...     on_event({"event": "phase", "phase": "prune", "epochs": 8, "steps": 3752})
        prune: 8 epochs, 3752 steps
    """
    console = console or Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        shown = _Shown(console, bar, goal)
        yield shown.on_event


class _Shown:
    def __init__(self, console: Console, bar: Progress, goal: Goal) -> None:
        self._console, self._bar, self._goal = console, bar, goal
        self._phase: TaskID | None = None
        self._epochs: Any = "?"

    def on_event(self, event: Event) -> None:
        kind = event["event"]
        if kind == "phase":
            self._begin(event)
            self._line(f"{event['phase']}: {event['epochs']} epochs, {event['steps']} steps")
        elif kind == "resumed":
            self._begin(event)
            self._line(f"{event['phase']}: resumed at step {event['step']} of {event['steps']}")
            if event.get("remark"):
                self._line(event["remark"])
        elif kind == "remark":
            self._line(event["text"])
        elif kind == "step":
            self._move(event["step"])
        elif kind == "epoch":
            text = epoch_line(event, self._goal, self._epochs)
            self._line(text)
            self._move(event["step"])

    def _begin(self, event: Event) -> None:
        self._epochs = event["epochs"]
        if self._phase is not None:
            self._bar.remove_task(self._phase)
        done = event.get("step", 0)
        self._phase = self._bar.add_task(event["phase"], total=event["steps"], completed=done)

    def _move(self, step: int) -> None:
        if self._phase is not None:
            self._bar.update(self._phase, completed=step)

    def _line(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def epoch_line(event: Mapping[str, Any], goal: Goal, epochs: Any = "?") -> str:
    """An ``epoch`` event as one line.

    >>> epoch_line({"phase": "prune", "epoch": 3, "loss": 0.0213, "seconds": 9.14,
    ...             "metrics": {"accuracy": 0.993}, "hard_pruned": {"accuracy": 0.981}},
    ...            Goal(), 8)
    'prune 3/8: loss 0.0213, accuracy 99.30 %, if cut now 98.10 %, 9.1 s'
    """
    said = [f"loss {event['loss']:.4f}"]
    for key, words in (
        ("metrics", goal.name),
        ("hard_pruned", "if cut now"),
        ("hard_pruned_bn", "with BatchNorm re-estimated"),
    ):
        metrics = event.get(key)
        if metrics and goal.name in metrics:
            said.append(f"{words} {goal.shown(metrics[goal.name])}")
    said.append(f"{event['seconds']:.1f} s")
    return f"{event['phase']} {event['epoch']}/{epochs}: {', '.join(said)}"
