"""From a recipe to the objects it names: model, task, plan, solver, optimiser, schedule."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, Literal

import torch
from torch import nn

from espalier import data, models, tasks
from espalier._ground.world import World
from espalier.errors import RecipeError, RequestError
from espalier.methods import Constrained, GradualFreezing, Method
from espalier.metrics import diagonal
from espalier.models import import_object
from espalier.planning import Per, Plan, Ranking, plan
from espalier.recipe._latency import plan_latency
from espalier.recipe._methods import RULES, make_method
from espalier.recipe._own_task import make_own_task
from espalier.recipe._part import Named
from espalier.recipe._paths import expanded
from espalier.recipe._recipe import Recipe
from espalier.recipe._sections import (
    DataSection,
    Phase,
    PlanSection,
    StartWith,
    TrainingSection,
)
from espalier.runs import (
    Continue,
    Freeze,
    Load,
    Planned,
    Quantise,
    Redraw,
    Rewind,
    SearchBits,
    Stage,
    Start,
    standard_stages,
    worth_of,
)
from espalier.search import Keeps, Trial, Trying
from espalier.solvers import Constant
from espalier.tasks._classification import Classification
from espalier.training import Training


def make_device(name: str) -> torch.device:
    """The device a recipe names.

    Raises:
        RecipeError: No such device, or it is not there.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n", 1)[0].rstrip(".")
        raise RecipeError(
            f"training.device: {name!r} cannot be used: {reason}; give cpu"
        ) from error
    return device


def use_threads(recipe: Recipe) -> None:
    """Let PyTorch compute with the recipe's number of threads, from now on."""
    if recipe.training.threads is not None:
        torch.set_num_threads(recipe.training.threads)


def make_task(recipe: Recipe) -> tasks.Task:
    """Batches, loss and evaluation; the data are read now.

    Raises:
        RequestError: A name or option that does not exist, or a function that makes no task.
        DataError: A file is missing or corrupt.
    """
    section = recipe.data or recipe.task
    assert section is not None  # a recipe has exactly one of the two
    if recipe.task is not None:
        device = make_device(recipe.training.device)
        task = make_own_task(recipe.task, recipe.training, device)
    else:
        task = _classification(recipe)
    if section.validation is None:
        return task
    if not isinstance(task, tasks.Validating):
        raise RequestError(
            f"task.validation: {type(task).__name__} has no validating(part) -> Task; write it, or leave validation out"
        )
    return task.validating(section.validation)


def _classification(recipe: Recipe) -> Classification:
    section, training = recipe.data, recipe.training
    assert section is not None
    path = None if section.path is None else expanded(section.path)
    split = data.load(section.name, path, normalise=section.normalise, **section.options)
    return Classification(
        split.train,
        split.test,
        batch_size=training.batch_size,
        seed=training.seed,
        augment=_augment(section),
        device=make_device(training.device),
        label_smoothing=section.label_smoothing,
        loss_fn=None if section.loss is None else import_object(section.loss),
        limit_train=section.limit_train,
        limit_test=section.limit_test,
    )


def _augment(section: DataSection) -> data.Augment | None:
    if section.augment is None:
        return None
    if ":" in section.augment:
        found: data.Augment = import_object(section.augment)
        return found
    return data.augmentation(section.augment)


def make_model(recipe: Recipe, given: Mapping[str, Any]) -> nn.Module:
    """The network on its device: weights drawn from ``training.seed``, then those of the file, if any.

    Args:
        recipe: The recipe.
        given: What the task says of the model (``task.model_arguments``); for our own networks, as
            far as they take it and the recipe's arguments do not say otherwise.

    Raises:
        RequestError: No such network, or arguments it does not take.
        CheckpointError: The weights do not fit.
    """
    section = recipe.model
    arguments = models.accepted(section.name, given) | section.arguments
    torch.manual_seed(recipe.training.seed)
    model = models.build(section.name, **arguments)
    if section.weights is not None:
        models.load_weights(model, expanded(section.weights))
    return model.to(make_device(recipe.training.device))


def make_plan(
    recipe: Recipe,
    model: nn.Module,
    task: tasks.Task,
    known: Sequence[Trial[Keeps]] = (),
    note: Callable[[list[Trial[Keeps]]], object] | None = None,
) -> Plan:
    """What each parameter may keep, for the weights as they are.

    Args:
        recipe: What was asked.
        model: As it is now.
        task: What it learns.
        known: Trials of a budget that is searched for, from before an interruption.
        note: Called with all trials after each. ``None``: nothing is searched; the budget is then shared
            evenly, to show and rehearse what is asked.

    Raises:
        BudgetError: It cannot be met.
        UnknownNameError: A glob that matches nothing.
        ShapeError: A set that does not fit a layer.
    """
    section = recipe.plan
    figures = dict(section.figures)
    if "keep" in figures:
        figures["keep"] = {
            n: tuple(k) if isinstance(k, list) else k for n, k in figures["keep"].items()
        }
    wanted: dict[str, Any] = {
        "set": _set_of(section),
        "include": section.include,
        "exclude": section.exclude or None,
        "multiple": section.multiple,
        "minimum": section.minimum,
    }
    was_training = model.training
    model.eval()
    try:
        if section.latency is not None:
            threads = recipe.training.threads or 1
            found = plan_latency(
                section.latency, model, task.example_input, threads=threads,
                allocation=_allocation(recipe, model, task, known, note), **wanted,
            )  # fmt: skip
            # Clocks differ between ranks; they go on with what rank 0 measured.
            return Plan.from_dict(World.current().agree(found.to_dict()))
        return plan(
            model,
            allocation=_allocation(recipe, model, task, known, note),
            example_input=task.example_input,
            bits=section.bits,
            **wanted,
            **figures,
        )
    finally:
        model.train(was_training)


def _allocation(
    recipe: Recipe,
    model: nn.Module,
    task: tasks.Task,
    known: Sequence[Trial[Keeps]],
    note: Callable[[list[Trial[Keeps]]], object] | None,
) -> Any:
    section = recipe.plan
    if isinstance(section.allocation, Named):
        if section.searches and note is None:
            return RULES["uniform"]
        return section.allocation.build().rule(
            Trying(worth=worth_of(model, task), seed=recipe.training.seed, known=known, note=note)
        )
    ranking = section.ranking
    if ranking is None:
        return RULES[section.allocation]
    metric = None
    if ranking.metric is not None:
        batches = islice(task.batches(0), ranking.batches)
        losses = (partial(task.loss, batch=batch) for batch in batches)
        metric = diagonal(ranking.metric.build(), model, losses)
    return Ranking(per=Per(ranking.per), metric=metric)


def _set_of(section: PlanSection) -> Any:
    if section.sets is None:
        return section.set.build()
    return {pattern: which.build() for pattern, which in section.sets.items()}


def make_quantise(recipe: Recipe, steps_per_epoch: int) -> Quantise | None:
    """How the survivors are quantised, if at all; its solver neither opens nor settles.

    Raises:
        RequestError: Settings that do not go together.
    """
    section = recipe.quantise
    if section is None:
        return None
    bits: Any = section.bits
    if section.search is not None:
        bits = SearchBits(**section.search.model_dump())
    freeze = None
    if section.freeze is not None:
        freeze = Freeze(
            training=make_training(recipe, recipe.training.of(section.freeze)),
            method=GradualFreezing(rounds=section.freeze.rounds, fraction=section.freeze.fraction),
        )
    method = make_method(section.solver, steps_per_epoch)
    if not isinstance(method, Constrained):
        raise RecipeError(
            "quantise.solver: it takes a solver that pulls or projects (slr, admm, penalty, oneshot), "
            f"got {section.model_dump()['method']}"
        )
    return Quantise(
        bits=bits,
        method=replace(method, opening=Constant(), settle=None),
        training=make_training(recipe, recipe.training.of(section)),
        freeze=freeze,
    )


def make_stages(recipe: Recipe, planned: Planned, steps_per_epoch: int) -> list[Stage]:
    """The stages of a recipe: those of its ``stages``, or the usual ones."""
    if recipe.stages is not None:
        return _own_stages(recipe, planned, steps_per_epoch)

    def settings(phase: Phase | None) -> Training | None:
        return None if phase is None else make_training(recipe, recipe.training.of(phase))

    return standard_stages(
        planned,
        make_method(recipe.solver, steps_per_epoch),
        prune=make_training(recipe, recipe.training),
        pretrain=settings(recipe.pretrain),
        retrain=settings(recipe.retrain),
        quantise=make_quantise(recipe, steps_per_epoch),
        goal=recipe.goal,
        seed=recipe.training.seed,
    )


def _own_stages(recipe: Recipe, planned: Planned, steps_per_epoch: int) -> list[Stage]:
    """Those of a recipe's ``stages``; the last cut is the run's, and what trains after it retrains."""
    sections = recipe.stages or []
    cuts = [number for number, section in enumerate(sections) if section.cut]
    first = next(n for n, s in enumerate(sections) if s.cut or s.method is not None)
    found: list[Stage] = []
    for number, section in enumerate(sections):
        figure: Literal["hard_pruned", "retrained"] | None = None
        if number == cuts[-1]:
            figure = "hard_pruned"
        elif number > cuts[-1]:
            figure = "retrained"
        method = None if section.method is None else make_method(section.method, steps_per_epoch)
        one = Stage(
            name=section.name, training=make_training(recipe, recipe.training.of(section)),
            method=method if isinstance(method, Method) else None,
            aim=planned if number == first else None, start=_start(section.start),
            cut=section.cut, goal=section.goal, figure=figure,
        )  # fmt: skip
        found += (
            [one]
            if method is None or isinstance(method, Method)
            else method.stages(one, recipe.training.seed)
        )
    return found


def _start(section: StartWith | None) -> Start:
    if section is None:
        return Continue()
    if section.rewind is not None:
        return Rewind(section.rewind.stage, section.rewind.step)
    if section.load is not None:
        return Load(expanded(section.load))
    return Redraw(section.redraw or 0)


def make_training(recipe: Recipe, phase: TrainingSection) -> Training:
    """How to train in one phase, as the training loop takes it.

    Raises:
        RequestError: Settings that do not go together.
    """
    return Training(
        epochs=phase.epochs or 0,
        lr=phase.lr,
        optimizer=phase.optimiser.build(),
        schedule=phase.schedule.build(),
        clip=phase.clip,
        sam=phase.sam,
        autocast=phase.autocast is not None,
        evaluate_every=recipe.evaluate_every,
    )
