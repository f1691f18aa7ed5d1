"""From a recipe to a run: everything is made and checked first, then trained into a run folder."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from espalier import models
from espalier._ground.described import flat
from espalier._ground.documents import dump_yaml
from espalier._ground.environment import environment
from espalier._ground.events import OnEvent
from espalier._ground.world import ALONE, World
from espalier.errors import RequestError
from espalier.methods import check_alike
from espalier.planning import Plan
from espalier.recipe._building import (
    make_model,
    make_plan,
    make_stages,
    make_task,
    make_training,
    use_threads,
)
from espalier.recipe._recipe import Recipe, validate
from espalier.runs import (
    Planned,
    RunOptions,
    RunResult,
    Searched,
    check_stages,
    read_run,
    run_stages,
)
from espalier.tasks import Task
from espalier.training import build_optimizer

_FREE = {"title", "published", "checkpoint", "compare"}
"""Sections that may differ when a run is resumed: they change nothing of what it computes."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A recipe with its objects made: nothing is written yet, but all of it was checked.

    Attributes:
        recipe: What was asked.
        content: The plain data it came from.
        task: Batches, loss, evaluation.
        model: As it is before any training of ours; trained in place.
        plan: For the weights as they are now. A budget that looks at weights is planned again after
            pretraining.
    """

    recipe: Recipe
    content: Mapping[str, Any]
    task: Task
    model: nn.Module
    plan: Plan

    @classmethod
    def prepare(cls, recipe: Recipe, content: Mapping[str, Any], plan: Plan | None = None) -> "Job":
        """Read the data, build the model, make the plan; PyTorch uses the recipe's threads from now on.

        Args:
            recipe: What was asked.
            content: The plain data it came from.
            plan: If there is one already: it may have taken a trace of the model, or measurements.

        Raises:
            EspalierError: Something in the recipe cannot be done.
        """
        use_threads(recipe)
        task = make_task(recipe)
        model = make_model(recipe, task.model_arguments)
        plan = make_plan(recipe, model, task) if plan is None else plan
        # What cannot be made is refused now, before anything is trained.
        job = cls(recipe=recipe, content=content, task=task, model=model, plan=plan)
        check_stages(make_stages(recipe, job.planned, task.steps_per_epoch))
        build_optimizer(model.parameters(), make_training(recipe, recipe.training))
        return job

    @property
    def planned(self) -> Planned:
        """The plan as the run takes it: made for the weights it leaves after pretraining, or searched for."""
        recipe, task = self.recipe, self.task
        settings = recipe.settings()["plan"]
        if recipe.plan.searches:
            return Searched(
                lambda model, known, note: make_plan(recipe, model, task, known, note),
                first=self.plan,
                settings=settings,
            )
        if recipe.pretrain is None:
            return Planned(self.plan, settings=settings)
        return Planned(
            lambda model: make_plan(recipe, model, task), first=self.plan, settings=settings
        )

    def advice(self) -> list[str]:
        """What is to be said before a run that will probably disappoint, stage by stage."""
        steps = self.task.steps_per_epoch
        told = []
        for stage in make_stages(self.recipe, Planned(self.plan), steps):
            if stage.method is not None and stage.training.epochs:
                own = stage.method.advice(stage.training.epochs * steps)
                told += [f"stage {stage.name}: {text}" for text in own]
        return told


def run(
    job: Job,
    folder: Path | str,
    *,
    resume: bool = False,
    on_event: OnEvent | None = None,
    world: World = ALONE,
) -> RunResult:
    """Do the job, into a run folder.

    Args:
        job: Its model is trained in place.
        folder: Made if it is not there.
        resume: Go on with the run the folder holds; a finished one is read, not run.
        on_event: Called with every event, as :func:`espalier.training.fit` does.
        world: The ranks that do it together. Rank 0 has the folder; the others work in one of their own, which is
            gone at the end.

    Raises:
        RequestError: The folder holds a run of another recipe.
        RunError: It could not go on; the last good checkpoint is kept.
    """
    recipe, path = job.recipe, Path(folder)
    if resume and (path / "config.json").is_file():
        config = read_run(path).config
        if "identity" not in config:  # of an older version; else it says more than the recipe does
            check_same(config.get("recipe", {}), recipe.settings(), path)
    config = {"recipe": recipe.settings(), "seed": recipe.training.seed, "ranks": world.size}
    check_alike(world, {f"{name} of the model": x for name, x in job.model.state_dict().items()}, 0)
    with _own_folder(path, world) as own:
        return run_stages(
            job.model,
            job.task,
            make_stages(recipe, job.planned, job.task.steps_per_epoch),
            own,
            seed=recipe.training.seed,
            probe=recipe.probe,
            resume=resume,
            options=RunOptions(
                config={**config, **environment()},
                texts={"recipe.yaml": dump_yaml(dict(job.content))},
                settings=deciding(recipe),
                checkpoint_every=recipe.checkpoint.steps,
                checkpoint_seconds=recipe.checkpoint.seconds,
                on_event=on_event,
            ),
            world=world,
        )


@contextmanager
def _own_folder(path: Path, world: World) -> Iterator[Path]:
    """Where this rank works: rank 0 in the run folder, any other in a copy of it that is then thrown away.

    Stages read back what they wrote, so that each rank needs the files; but the run is rank 0's alone to keep.
    """
    if world.rank == 0:
        world.gather(None)  # nothing is written before the others have their copies
        yield path
        return
    with TemporaryDirectory(prefix="espalier-") as scratch:
        own = Path(scratch) / "run"
        if path.is_dir():
            shutil.copytree(path, own, ignore=shutil.ignore_patterns("lock"))
        world.gather(None)
        yield own


def deciding(recipe: Recipe) -> dict[str, Any]:
    """What decides the result of a run besides its stages and its plan, as plain data."""
    settings = recipe.settings()
    shared = ("batch_size", "device", "threads")
    return {
        **{name: settings[name] for name in ("model", "data", "task")},
        "training": {name: settings["training"][name] for name in shared},
    }


def reopened(folder: Path | str) -> tuple[Job, nn.Module]:
    """The job of a run folder, and its model with the weights the run ended with.

    Raises:
        WrongFolderError: Not a run.
        RequestError: The run has not ended.
    """
    record = read_run(folder)
    weights = record.path / "weights.safetensors"
    if not weights.is_file():
        raise RequestError(f"{folder}: the run has not ended; finish it with --resume first")
    settings = record.config.get("recipe", {})
    model = settings.get("model")
    if isinstance(model, Mapping):
        settings = {**settings, "model": {**model, "weights": None}}  # the run's own come
    plan = Plan.load(record.path / "plan.yaml")
    job = Job.prepare(validate(settings, str(record.path / "config.json")), settings, plan)
    models.load_weights(job.model, weights)
    return job, job.model


def check_same(was: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    """A run goes on with its own recipe or not at all."""
    old, new = flat(was), flat(now)
    differing = [
        f"{key} was {old.get(key)!r} and is now {new.get(key)!r}"
        for key in sorted({*old, *new})
        if key.split(".")[0] not in _FREE and old.get(key) != new.get(key)
    ]
    if differing:
        raise RequestError(
            f"{path}: holds a run of another recipe: {'; '.join(differing[:3])}. Resume it with its own "
            f"({path / 'recipe.yaml'}), or give another folder"
        )
