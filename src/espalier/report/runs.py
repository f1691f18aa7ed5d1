"""Reads a run folder as the report needs it: tolerant of runs that are unfinished or were cut short.

``config.json`` is what makes a folder a run. Everything else may be missing and then leaves its
section out. Of events told twice, because a run was resumed, the later telling counts.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError, safe_open

from espalier.errors import DataError, RequestError

Json = Mapping[str, Any]

_METHODS = {
    "slr": "SLR",
    "admm": "ADMM",
    "penalty": "Penalty",
    "gradual": "Gradual magnitude",
    "one_shot": "One-shot magnitude",
    "oneshot": "One-shot magnitude",
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run folder, read.

    Attributes:
        path: the folder.
        config: ``config.json``, everything resolved.
        recipe_text: ``recipe.yaml`` as the user wrote it; empty when there is none.
        plan: by parameter name what ``plan.yaml`` says of it.
        phases: "phase" events.
        epochs: "epoch" events, one for each phase and epoch.
        updates: "update" events, one for each step.
        resumed: how often the run was taken up again.
        unreadable: lines of ``metrics.jsonl`` that were not JSON and are left out.
        result: ``result.json``; ``None`` while the run is unfinished.
    """

    path: Path
    config: Json
    recipe_text: str
    plan: Mapping[str, Json]
    phases: Sequence[Json]
    epochs: Sequence[Json]
    updates: Sequence[Json]
    resumed: int
    unreadable: int
    result: Json | None

    @property
    def recipe(self) -> Json:
        """The resolved recipe within the config."""
        recipe = self.config.get("recipe")
        return recipe if isinstance(recipe, Mapping) else self.config

    @property
    def seed(self) -> Any:
        """The run's seed, or ``None``."""
        return self.config.get("seed", self.recipe.get("seed"))

    @property
    def method(self) -> str:
        """The method's name as a reader knows it."""
        name = named(self.recipe.get("method") or self.recipe.get("solver"))
        return _METHODS.get(name, name) or "unnamed method"

    @property
    def model(self) -> str:
        """The model's name."""
        return named(self.recipe.get("model")) or "unnamed model"

    @property
    def data(self) -> str:
        """The data set's name."""
        return named(self.recipe.get("data")) or "unnamed data"

    @cached_property
    def goal(self) -> str:
        """The metric that counts, higher being better: ``"accuracy"`` unless there is none."""
        shown = [epoch.get("metrics") for epoch in self.epochs] + [self.got("dense")]
        for metrics in shown:
            if isinstance(metrics, Mapping) and metrics and "accuracy" not in metrics:
                return str(next((name for name in metrics if name != "loss"), "accuracy"))
        return "accuracy"

    def got(self, stage: str) -> Json:
        """A part of the result that is a mapping; empty when missing."""
        value = (self.result or {}).get(stage)
        return value if isinstance(value, Mapping) else {}

    def final(self, stage: str) -> float | None:
        """The goal metric at a stage: ``"dense"``, ``"hard_pruned"``, ``"retrained"`` …

        An unfinished run answers ``"hard_pruned"`` with its last evaluation.
        """
        value: float | None = self.got(stage).get(self.goal)
        if value is None and self.result is None and stage.startswith("hard_pruned"):
            seen = [e[stage].get(self.goal) for e in self.phase("prune") if e.get(stage)]
            value = seen[-1] if seen else None
        return value

    def phase(self, name: str) -> list[Json]:
        """The "epoch" events of one phase."""
        return [epoch for epoch in self.epochs if epoch.get("phase") == name]

    def tensors(self, names: Sequence[str], file: str) -> dict[str, Any]:
        """Float32 tensors by name from ``before.safetensors`` or ``weights.safetensors``.

        Names the file does not hold, and a file that is not there, are left out.

        Raises:
            DataError: the file is truncated or no safetensors file.
        """
        path = self.path / file
        if not path.is_file():
            return {}
        try:
            with safe_open(str(path), framework="pt") as opened:
                there = set(opened.keys())
                return {n: opened.get_tensor(n).float() for n in names if n in there}
        except (SafetensorError, OSError) as error:
            raise DataError(f"{path}: not a whole safetensors file: {error}") from error


def named(spec: Any) -> str:
    """The name within a specification: ``"x"``, ``{"name": "x", …}`` or ``{"x": {…}}``.

    >>> named("slr"), named({"name": "slr", "rho": 0.1}), named({"slr": {"rho": 0.1}})
    ('slr', 'slr', 'slr')
    """
    if isinstance(spec, Mapping):
        for key in ("name", "method", "kind"):
            if isinstance(spec.get(key), str):
                return str(spec[key])
        return str(next(iter(spec))) if len(spec) == 1 else ""
    return "" if spec is None else str(spec)


def read_run(path: str | os.PathLike[str]) -> Run:
    """Reads one run folder.

    Raises:
        RequestError: ``path`` is not a run folder.
        DataError: a file in it is corrupt.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise RequestError(f"{folder} is not a folder; give the folder of a run")
    if not (folder / "config.json").is_file():
        raise RequestError(
            f"{folder} is not a run: it has no config.json; "
            "give a folder that `espalier prune --out` wrote"
        )
    events, unreadable = _events(folder / "metrics.jsonl")
    kinds = [str(event.get("event")) for event in events]
    return Run(
        path=folder,
        config=_mapping(folder / "config.json"),
        recipe_text=_text(folder / "recipe.yaml"),
        plan=_plan(folder / "plan.yaml"),
        phases=_latest(events, "phase", "phase"),
        epochs=_latest(events, "epoch", "phase", "epoch"),
        updates=_latest(events, "update", "step"),
        resumed=kinds.count("resumed"),
        unreadable=unreadable,
        result=_mapping(folder / "result.json") if (folder / "result.json").is_file() else None,
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text: {error}") from error


def _no_constant(_: str) -> None:
    """NaN and the infinities are not JSON: read as missing."""


def _mapping(path: Path) -> Json:
    try:
        value = json.loads(_text(path), parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: holds a {type(value).__name__}, not an object")
    return value


def _events(path: Path) -> tuple[list[Json], int]:
    """The events and how many lines could not be read: a killed run may leave half a line."""
    events: list[Json] = []
    unreadable = 0
    if not path.is_file():
        return events, unreadable
    with path.open("rb") as lines:
        for line in lines:
            if not line.strip():
                continue
            try:
                event = json.loads(line, parse_constant=_no_constant)
            except (json.JSONDecodeError, UnicodeDecodeError):
                event = None
            if isinstance(event, dict):
                events.append(event)
            else:
                unreadable += 1
    return events, unreadable


def _latest(events: Sequence[Json], kind: str, *key: str) -> tuple[Json, ...]:
    """The events of a kind, the last telling for each key, ordered by first telling."""
    told: dict[tuple[Any, ...], Json] = {}
    for event in events:
        if event.get("event") == kind:
            told[tuple(event.get(part) for part in key)] = event
    return tuple(told.values())


def _plan(path: Path) -> dict[str, Json]:
    try:
        plan = yaml.safe_load(_text(path)) or {}
    except yaml.YAMLError as error:
        raise DataError(f"{path}: not YAML: {error}") from error
    entries = plan.get("entries", {}) if isinstance(plan, Mapping) else {}
    if isinstance(entries, Mapping):
        return {str(name): entry for name, entry in entries.items() if isinstance(entry, Mapping)}
    return {str(e["name"]): e for e in entries if isinstance(e, Mapping) and "name" in e}
