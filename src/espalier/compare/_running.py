"""Run every contestant, each in its own folder; what has ended already is not run again."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from espalier._ground.events import OnEvent
from espalier._ground.files import read_mapping, write_bytes
from espalier._ground.locking import FolderLock
from espalier.compare._contest import DENSE, Contestant
from espalier.compare._overhead import overheads
from espalier.compare._result import ComparisonResult, rows_of
from espalier.errors import RequestError, RunFolderError
from espalier.recipe._building import make_model, make_task, make_training, use_threads
from espalier.recipe._recipe import Recipe, validate
from espalier.recipe._running import Job, check_same, deciding, run
from espalier.runs import RunOptions, Stage, run_stages
from espalier.tasks import Goal

_SHARED = ("model", "data", "task", "training", "pretrain")
"""Sections on which the weights that pruning begins with depend."""


def goal_of(contest: Sequence[Contestant]) -> Goal:
    """The figure that a comparison is judged by: that of its first contestant's task."""
    return make_task(contest[0].recipe).goal if contest else Goal()


def run_comparison(
    contest: Sequence[Contestant],
    folder: Path | str,
    *,
    on_event: OnEvent | None = None,
    measure_overhead: bool = True,
) -> ComparisonResult:
    """Run each contestant into ``folder/LABEL-seedK`` and put what came of it side by side.

    Where the recipe pretrains, that is done once a seed, in ``folder/pretrained``, and all methods begin
    with those weights. Runs that have ended are read; one that was stopped is resumed.

    Args:
        contest: Who competes.
        folder: Of all runs; ``compare.json`` is written there.
        on_event: Called with every event; ``{"event": "run", "name": …}`` begins each run.
        measure_overhead: Whether to measure what each solver adds to a step.

    Raises:
        RequestError: A folder holds a run of other settings.
        RunError: A run could not go on; those before it are kept.
    """
    folder = Path(folder)
    splits = {section.validation for c in contest if (section := c.recipe.data or c.recipe.task)}
    if len(splits) > 1:
        raise RequestError(
            "the recipes are judged on different data: some on test data or on other parts held out; give all of "
            "them the same validation"
        )
    folders = [folder / contestant.folder for contestant in contest]
    if len(set(folders)) < len(folders):
        raise RequestError("two contestants have the same label and seed; give recipes other names")
    with FolderLock(folder):  # every run has its own besides
        return _compared(contest, folder, on_event, measure_overhead)


def _compared(
    contest: Sequence[Contestant], folder: Path, on_event: OnEvent | None, measure_overhead: bool
) -> ComparisonResult:
    begun = [(c, *_begun(c, folder, on_event)) for c in contest]
    results = []
    for contestant, recipe, content in begun:
        if on_event is not None:
            on_event({"event": "run", "name": contestant.folder})
        job = Job.prepare(recipe, content)
        done = run(job, folder / contestant.folder, resume=True, on_event=on_event)
        results.append(done.result)
    goal = Goal(**results[0].goal.model_dump()) if results else Goal()
    ratios = _overheads(begun, folder) if measure_overhead else {}
    compared = ComparisonResult(
        goal=goal,
        rows=rows_of(contest, results, goal, ratios),
        runs=tuple(folder / contestant.folder for contestant in contest),
        split=results[0].split if results else "test",
    )
    text = json.dumps(compared.to_dict(), indent=2, allow_nan=False) + "\n"
    write_bytes(folder / "compare.json", text.encode())
    return compared


def _begun(
    contestant: Contestant, folder: Path, on_event: OnEvent | None
) -> tuple[Recipe, dict[str, Any]]:
    """The recipe with the shared pretrained weights in place of pretraining."""
    content = dict(contestant.content)
    if contestant.recipe.pretrain is None:
        return contestant.recipe, content
    weights = _pretrained(contestant, folder, on_event)
    content.pop("pretrain")
    model = content["model"]
    content["model"] = {
        **({"name": model} if isinstance(model, str) else model),
        "weights": str(weights),
    }
    return validate(content, contestant.folder), content


def _pretrained(contestant: Contestant, folder: Path, on_event: OnEvent | None) -> Path:
    """The weights that every contestant of this recipe and seed begins with."""
    recipe = contestant.recipe
    settings = {name: value for name, value in recipe.settings().items() if name in _SHARED}
    place = folder / "pretrained" / f"seed{contestant.seed}"
    # Several recipes may pretrain differently.
    for number in range(2, 100):
        if not (place / "config.json").is_file() or _same(place, settings):
            break
        place = folder / "pretrained" / f"seed{contestant.seed}-{number}"
    if on_event is not None and not (place / "result.json").is_file():
        on_event({"event": "run", "name": f"pretrained/{place.name}"})
    assert recipe.pretrain is not None  # the caller asked
    use_threads(recipe)
    task = make_task(recipe)
    stage = Stage(
        name="pretrain", training=make_training(recipe, recipe.training.of(recipe.pretrain))
    )
    kept = RunOptions(
        config={"recipe": settings, "seed": contestant.seed},
        settings=deciding(recipe),
        checkpoint_every=recipe.checkpoint.steps,
        checkpoint_seconds=recipe.checkpoint.seconds,
        on_event=on_event,
    )
    run_stages(
        make_model(recipe, task.model_arguments), task, [stage], place, resume=True, options=kept
    )
    return place / "weights.safetensors"


def _same(place: Path, settings: dict[str, Any]) -> bool:
    config = read_mapping(place / "config.json")
    try:
        check_same(config.get("recipe", {}), settings, place)
    except (RequestError, RunFolderError):
        return False
    return True


def _overheads(
    begun: Sequence[tuple[Contestant, Recipe, dict[str, Any]]], folder: Path
) -> dict[str, float]:
    """Measured for the first seed of each label; kept, for a machine is not the same twice."""
    kept = folder / "overhead.json"
    known: dict[str, float] = dict(read_mapping(kept)) if kept.is_file() else {}
    jobs = {
        c.label: Job.prepare(recipe, content)
        for c, recipe, content in reversed(begun)
        if c.method not in (DENSE, "oneshot")
    }
    if set(jobs) - set(known):
        known |= overheads(jobs)
        write_bytes(kept, (json.dumps(known, indent=2) + "\n").encode())
    return known
