"""A run folder as the report needs it: events by kind, names for readers, weights on request.

``config.json`` is what makes a folder a run. Everything else may be missing and then leaves its
section out. Of events told twice, because a run was resumed, the later telling counts.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from espalier._ground.documents import MAX_TEXT
from espalier._ground.files import read_mapping
from espalier._ground.reading import read_text
from espalier._ground.registry import Members
from espalier._ground.safetensors import read_tensors
from espalier.errors import CheckpointError, RunFolderError
from espalier.methods import Method
from espalier.report._numbers import finite
from espalier.runs import Procedure, Result
from espalier.runs import read_run as read_record
from espalier.solvers import Solver
from espalier.tasks import Goal

Json = Mapping[str, Any]

DENSE = "Dense training"


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
        result: ``result.json``; ``None`` while the run is unfinished.
        pruning: epochs and seconds of the stages that pruned, rounds and all.
        compact: ``compact.json``; ``None`` unless the run was compacted.
        latency: ``latency.json``; ``None`` unless its latency was measured.
        goal: the figure that it is judged by.
    """

    path: Path
    config: Json
    recipe_text: str
    plan: Mapping[str, Json]
    phases: Sequence[Json]
    epochs: Sequence[Json]
    updates: Sequence[Json]
    resumed: int
    result: Json | None
    pruning: tuple[int, float | None]
    compact: Json | None
    latency: Json | None
    goal: Goal

    @property
    def recipe(self) -> Json:
        """The resolved recipe within the config."""
        recipe = self.config.get("recipe")
        return recipe if isinstance(recipe, Mapping) else self.config

    @property
    def seed(self) -> Any:
        """The run's seed, or ``None``."""
        training = self.recipe.get("training")
        inner = training.get("seed") if isinstance(training, Mapping) else None
        return self.config.get("seed", self.recipe.get("seed", inner))

    @property
    def method(self) -> str:
        """The method's name as a reader knows it; a plan that keeps everything is dense training."""
        name, plan = named(self.recipe.get("solver")), self.recipe.get("plan")
        if not name or (isinstance(plan, Mapping) and plan.get("density") == 1):
            return DENSE
        said = (self.result or {}).get("method")
        return str(said) if said else _title(name)

    @property
    def model(self) -> str:
        """The model's name."""
        return named(self.recipe.get("model")) or "unnamed model"

    @property
    def data(self) -> str:
        """The data set's name, or that of a task of one's own."""
        return named(self.recipe.get("data") or self.recipe.get("task")) or "unnamed data"

    @property
    def label(self) -> str:
        """The folder's name, without the seed that a comparison puts at its end."""
        return re.sub(r"-seed\d+$", "", self.path.name)

    @cached_property
    def overhead(self) -> float | None:
        """Seconds of a step with the solver over those of a dense step.

        As a comparison measured it side by side; else from the run's own phases.
        """
        measured = self.path.parent / "overhead.json"
        if measured.is_file():
            return finite(read_mapping(measured).get(self.label))
        seconds = self.got("step_seconds")
        dense, solver = finite(seconds.get("dense")), finite(seconds.get("solver"))
        return solver / dense if dense and solver else None

    def got(self, stage: str) -> Json:
        """A part of the result that is a mapping; empty when missing."""
        value = (self.result or {}).get(stage)
        return value if isinstance(value, Mapping) else {}

    @property
    def split(self) -> str:
        """Of which data the figures are: ``"test"``, or ``"validation"``."""
        section = self.recipe.get("data") or self.recipe.get("task")
        asked = isinstance(section, Mapping) and section.get("validation") is not None
        return str((self.result or {}).get("split") or ("validation" if asked else "test"))

    def final(self, stage: str) -> float | None:
        """The goal's figure at a stage, such as ``"dense"`` or ``"hard_pruned"``.

        An unfinished run answers ``"hard_pruned"`` with its last evaluation.
        """
        value = finite(self.got(stage).get(self.goal.name))
        if value is None and self.result is None and stage.startswith("hard_pruned"):
            seen = [finite((e.get(stage) or {}).get(self.goal.name)) for e in self.phase("prune")]
            value = next((v for v in reversed(seen) if v is not None), None)
        return value

    def phase(self, name: str) -> list[Json]:
        """The "epoch" events of one phase."""
        return [epoch for epoch in self.epochs if epoch.get("phase") == name]

    def file_size(self, name: str) -> int | None:
        """Bytes of a file of the folder, if it is there."""
        path = self.path / name
        return path.stat().st_size if path.is_file() else None

    def tensors(self, names: Sequence[str], file: str) -> dict[str, Any]:
        """Float32 tensors by name from ``before.safetensors`` or ``weights.safetensors``.

        Names the file does not hold, and a file that is not there, are left out.

        Raises:
            RunFolderError: the file is truncated or no safetensors file.
        """
        path = self.path / file
        if not path.is_file():
            return {}
        try:
            return {name: tensor.float() for name, tensor in read_tensors(path, names).items()}
        except (CheckpointError, OSError) as error:
            raise RunFolderError(f"{path}: not a whole safetensors file: {error}") from error


def _title(name: str) -> str:
    """What a method is called in prose, from the class that has the name."""
    name = {"one_shot": "oneshot"}.get(name, name)
    for family in (Solver, Method, Procedure):
        found: Any = Members(family).get(name)
        if found is not None:
            return str(found.title)
    return name


def named(spec: Any) -> str:
    """The name within a specification: ``"x"``, ``{"name": "x", …}`` or ``{"x": {…}}``.

    >>> named("slr"), named({"name": "slr", "rho": 0.1}), named({"slr": {"rho": 0.1}})
    ('slr', 'slr', 'slr')
    """
    if isinstance(spec, Mapping):
        for key in ("name", "method"):
            if isinstance(spec.get(key), str):
                return str(spec[key])
        return str(next(iter(spec))) if len(spec) == 1 else ""
    return "" if spec is None else str(spec)


def read_run(path: str | os.PathLike[str]) -> Run:
    """Reads one run folder, finished or not.

    Raises:
        WrongFolderError: no such folder, or not a run.
        RunFolderError: a file in it is damaged.
    """
    record = read_record(Path(path))
    done = record.result
    kinds = [event["event"] for event in record.events]
    epochs = _latest(record.events, "epoch", "phase", "epoch")
    return Run(
        path=record.path,
        config=record.config,
        recipe_text=_text(record.path / "recipe.yaml"),
        plan=_entries(record.plan or {}),
        phases=_latest(record.events, "phase", "phase"),
        epochs=epochs,
        updates=_latest(record.events, "update", "step"),
        resumed=kinds.count("resumed"),
        result=None if done is None else done.to_dict(),
        pruning=(0, None) if done is None else (done.pruning_epochs, done.pruning_seconds),
        compact=_found(record.path / "compact.json"),
        latency=_found(record.path / "latency.json"),
        goal=_goal(record.result, epochs),
    )


def _goal(result: Result | None, epochs: Sequence[Json]) -> Goal:
    """As the result has it; of runs unfinished or of version 0.1, what their metrics let one guess."""
    if result is not None and "goal" in result.model_fields_set:
        return Goal(**result.goal.model_dump())
    told = [epoch.get("metrics") for epoch in epochs] + [result.dense if result else None]
    names = dict.fromkeys(str(name) for one in told if isinstance(one, Mapping) for name in one)
    if not names or "accuracy" in names:
        return Goal()
    name = next((name for name in names if name != "loss"), "loss")
    return Goal(name=name, unit="", higher_is_better=name != "loss")  # as tasks.FromLoaders guesses


def _found(path: Path) -> Json | None:
    return read_mapping(path) if path.is_file() else None


def _text(path: Path) -> str:
    try:
        return read_text(path, MAX_TEXT) if path.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise RunFolderError(f"{path}: cannot be read as text: {error}") from error


def _latest(events: Sequence[Json], kind: str, *key: str) -> tuple[Json, ...]:
    """The events of a kind, the last telling for each key, ordered by first telling."""
    told: dict[tuple[Any, ...], Json] = {}
    for event in events:
        if event["event"] == kind:
            told[tuple(event.get(part) for part in key)] = event
    return tuple(told.values())


def _entries(plan: Json) -> dict[str, Json]:
    """The plan's rows by parameter name."""
    rows = plan.get("parameters")
    rows = rows if isinstance(rows, Mapping) else {}
    return {str(name): row for name, row in rows.items() if isinstance(row, Mapping)}
