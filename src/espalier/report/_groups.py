"""Which runs belong together: seeds of one setting are one group; what differs names the groups.

The resolved recipes are flattened to dotted keys and compared. Keys that do not bear on what
comes out (seed, title, checkpoints) are left out.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from espalier._ground.interval import Interval, interval
from espalier.report._numbers import finite
from espalier.report._runs import Run
from espalier.tasks import Goal

_NOT_SETTINGS = {"seed", "title", "compare", "checkpoint"}


@dataclass(frozen=True, kw_only=True)
class MethodRuns:
    """The runs that differ in nothing but the seed.

    Attributes:
        label: what tells the group from the others on this page.
        runs: ordered by seed.
        value: the group's value of the page's one varied setting; ``None`` when there is none.
    """

    label: str
    runs: Sequence[Run]
    value: Any = None

    @property
    def method(self) -> str:
        """The method of every run in the group."""
        return self.runs[0].method

    @property
    def phrase(self) -> str:
        """The label within a sentence."""
        method, _, rest = self.label.partition(" · ")
        return f"{method} ({rest.replace(' · ', ', ')})" if rest else method

    def mean(self, of: Callable[[Run], Any]) -> Interval | None:
        """Mean and interval of a quantity over the runs that have it."""
        return mean([of(run) for run in self.runs])


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All groups of a page and the one setting they differ in, if it is one.

    Attributes:
        groups: in the order in which they were given.
        setting: dotted key of the only setting, besides the method, that varies; or ``None``.
        goal: the figure that the page compares.
    """

    groups: Sequence[MethodRuns]
    setting: str | None
    goal: Goal

    @property
    def methods(self) -> list[str]:
        """The methods, each once."""
        return list(dict.fromkeys(group.method for group in self.groups))


def mean(values: Sequence[Any]) -> Interval | None:
    """Mean of the finite values with its interval.

    >>> mean([0.98, 0.99, None])
    Interval(mean=0.985, half_width=0.06353, values=(0.98, 0.99))
    """
    return interval([number for number in map(finite, values) if number is not None])


def compare(runs: Sequence[Run]) -> Comparison:
    """Puts seeds together and finds what the groups differ in."""
    # One page compares one figure; a finished run knows its goal, an unfinished one guesses.
    goal = next((run.goal for run in runs if run.result is not None), runs[0].goal)
    runs = [replace(run, goal=goal) for run in runs]
    together: dict[str, list[tuple[Run, dict[str, Any]]]] = {}
    for run in runs:
        settings = flatten(run.recipe)
        key = json.dumps(settings, sort_keys=True, default=str)
        together.setdefault(key, []).append((run, settings))
    members = [
        sorted((run for run, _ in group), key=lambda run: str(run.seed).zfill(12))
        for group in together.values()
    ]
    resolved = [group[0][1] for group in together.values()]
    varied = _varied_within_methods([group[0].method for group in members], resolved)
    labels = [_label(group[0], own, varied) for group, own in zip(members, resolved, strict=True)]
    setting = varied[0] if len(varied) == 1 else None
    groups = tuple(
        MethodRuns(
            label=label if labels.count(label) == 1 else f"{label} · {group[0].label}",
            runs=tuple(group),
            value=own.get(setting) if setting else None,
        )
        for label, group, own in zip(labels, members, resolved, strict=True)
    )
    return Comparison(groups=groups, setting=setting, goal=goal)


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys to scalars; lists count as one value.

    >>> flatten({"a": {"b": 1}, "seed": 3, "c": [1, 2]})
    {'a.b': 1, 'c': '[1, 2]'}
    """
    if prefix == "model.weights" and isinstance(value, str):
        value = re.sub(r"\bseed\d+", "seed", value)  # a comparison pretrains once a seed
    if not isinstance(value, Mapping):
        return {prefix: json.dumps(value) if isinstance(value, list) else value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        if str(key) not in _NOT_SETTINGS:
            flat |= flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _varied_within_methods(methods: Sequence[str], settings: Sequence[dict[str, Any]]) -> list[str]:
    """The keys that take two values among the groups of one method."""
    varied: dict[str, None] = {}
    for method in dict.fromkeys(methods):
        own = [s for s, m in zip(settings, methods, strict=True) if m == method]
        for key in dict.fromkeys(key for s in own for key in s):
            if len({json.dumps(s.get(key), default=str) for s in own}) > 1:
                varied[key] = None
    choices = [key.removesuffix("method") for key in varied if key.endswith(".method")]
    return [
        key  # what belongs to a choice varies with it
        for key in varied
        if key.endswith(".method") or not any(key.startswith(choice) for choice in choices)
    ]


def _shown(key: str, value: Any) -> str:
    told = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{setting_name(key)} {told}"


def setting_name(key: str) -> str:
    """A dotted key as a reader says it.

    >>> setting_name("solver.rho"), setting_name("solver.continuation.method")
    ('rho', 'continuation')
    """
    parts = key.split(".")
    return parts[-2 if parts[-1] in ("method", "name") and len(parts) > 1 else -1].replace("_", " ")


def _label(run: Run, settings: Mapping[str, Any], varied: Sequence[str]) -> str:
    shown = [_shown(key, settings[key]) for key in varied if key in settings]
    if len(shown) > 3:
        return f"{run.method} · {run.label}"
    return " · ".join([run.method, *shown])
