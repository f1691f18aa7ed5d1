"""What a run ended with: ``result.json``, one typed and versioned document, written and read here alone.

Its JSON schema is ``docs/result.schema.json``.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from espalier._ground.files import plain, read_mapping, write_json
from espalier.errors import RunFolderError, shown
from espalier.runs._certified import CertificateResult, Closed, Judged

VERSION = 2

Figures = dict[str, float | None]
"""Metrics by name; null where they were NaN or infinite."""


class CountResult(Closed):
    """Weights under one counting convention."""

    total: int
    nonzero: int
    compression: float | None
    """total / nonzero; null when nothing is left."""


class LayerResult(Closed):
    """Weights of one pruned parameter."""

    total: int
    nonzero: int
    density: float


class StageResult(Closed):
    """One stage of the run."""

    name: str
    method: str | None
    """The title of its method; null for plain training."""
    figure: str | None = None
    """Under which name of the result its figures stand; null: here alone."""
    epochs: int
    steps: int
    gradients: int | None = None
    """Gradients computed for them: one a step, two where it is sharpness-aware; null in older runs: one a step."""
    seconds: float
    """Wall-clock time, summed over resumes."""
    step_seconds: float
    """Wall-clock time per training step, data included, evaluation not."""
    stopped: str
    """`epochs`: all were done; `goal`: it was reached before."""
    metrics: Figures | None
    """Of the model as it was trained, at the last evaluation."""
    cut: Figures | None = None
    """Of the model as cut at the end of the stage; null where nothing was cut."""
    cut_bn: Figures | None = None
    """Likewise with BatchNorm re-estimated; null without BatchNorm."""
    nonzero: int | None = None
    """Nonzero weights of the constrained parameters after the cut."""


class Quantised(Closed):
    """What the survivors' values take."""

    bits: dict[str, int]
    search: dict[str, Any] | None
    """How the bits were found, where they were searched."""
    steps: dict[str, float]
    """The distance of the levels, by parameter name."""
    data_bits: int
    """Σ survivors × bits, indices not counted."""


class Result(Closed):
    """What a run ended with."""

    version: Literal[2] = 2
    outcome: Literal["converged", "forced", "budget_spent", "stalled", "non_finite"]
    sentence: str
    """The verdict for a reader."""
    method: str | None = None
    """The title of the method that pruned; null in runs of version 0.1."""
    goal: Judged = Field(default_factory=Judged)
    split: Literal["test", "validation"] = "test"
    """Of which data all figures are: test data, or training data that were held out for choices."""
    dense: Figures | None
    """At the start of pruning."""
    hard_pruned: Figures | None
    """As cut, before any retraining."""
    hard_pruned_bn: Figures | None
    """Likewise with BatchNorm re-estimated; null without BatchNorm."""
    retrained: Figures | None
    """After training with the zeros held; null where there was none."""
    quantised: Figures | None = None
    """With every survivor on its level; null where nothing was quantised."""
    quantised_bn: Figures | None = None
    quantisation: Quantised | None = None
    counts: dict[str, CountResult]
    """By counting convention."""
    layers: dict[str, LayerResult]
    """By pruned parameter."""
    certificate: CertificateResult | None
    """Null where the run stopped before pruning had ended."""
    epochs: dict[str, int]
    """By stage."""
    seconds: dict[str, float]
    """By stage: wall-clock time, summed over resumes."""
    step_seconds: dict[str, float | None]
    """Per training step: `dense` (without a method), `solver` (while pruning), `held` (zeros held), others by stage."""
    stages: list[StageResult] = Field(default_factory=list)
    """In order; empty in runs of version 0.1."""

    def to_dict(self) -> dict[str, Any]:
        """As ``result.json`` has it."""
        return self.model_dump(mode="json")

    @property
    def delivered(self) -> Figures | None:
        """The figures of the model that is handed back."""
        return (
            self.quantised_bn or self.quantised or self.retrained
            or self.hard_pruned_bn or self.hard_pruned
        )  # fmt: skip

    @property
    def pruning(self) -> list[StageResult]:
        """The stages that pruned, rounds and all: without pretraining, retraining and quantising."""
        ends = [n for n, stage in enumerate(self.stages, 1) if stage.figure == "hard_pruned"]
        before = self.stages[: ends[-1]] if ends else self.stages
        return [stage for stage in before if stage.method is not None or stage.cut is not None]

    @property
    def pruning_epochs(self) -> int:
        """Of the stages that pruned, rounds and all; of sharpness-aware steps, which take two gradients, doubled."""
        if not self.stages:
            return self.epochs.get("prune", 0)
        return sum(s.epochs * ((s.gradients or s.steps) // max(1, s.steps)) for s in self.pruning)

    @property
    def pruning_seconds(self) -> float | None:
        """Wall-clock time of them."""
        return sum(s.seconds for s in self.pruning) if self.stages else self.seconds.get("prune")

    def figure(self, stage: str) -> float | None:
        """The goal's figure at ``dense``, ``hard_pruned``, ``hard_pruned_bn``, ``retrained`` …; None if none."""
        figures = getattr(self, stage)
        return None if figures is None else figures.get(self.goal.name)


def validated(content: Mapping[str, Any], where: str) -> Result:
    """The result that plain data say; those of version 0.1, which had no version, are read as well.

    Raises:
        RunFolderError: Of another version, or not a result.
    """
    version = content.get("version", 1)
    if not isinstance(version, int) or version not in (1, VERSION):
        raise RunFolderError(
            f"{where}: a result of version {shown(version)}, and this Espalier reads 1 and {VERSION}; "
            "use the Espalier that wrote it"
        )
    content = {**content, "version": VERSION}
    if not content.get("certificate"):
        content["certificate"] = None
    try:
        return Result.model_validate(plain(content))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise RunFolderError(
            f"{where}: not a result: {place}: {first['msg']}; restore it from a copy, or delete it and resume the run"
        ) from None


def read_result(path: Path) -> Result:
    """Read a ``result.json``.

    Raises:
        RunFolderError: It cannot be read, or is not a result.
    """
    return validated(read_mapping(path), str(path))


def write_result(path: Path, result: Result) -> None:
    """Replace a ``result.json``."""
    write_json(path, result.to_dict())


def json_schema() -> str:
    """The schema of ``result.json`` as it is committed, JSON Schema 2020-12."""
    schema = Result.model_json_schema(mode="serialization")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return (
        json.dumps({**head, **schema, "title": "Espalier result"}, indent=2, ensure_ascii=False)
        + "\n"
    )
