"""From a recipe to the objects it names: model, task, plan, solver, optimiser, schedule."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from espalier import budgets, data, models, tasks
from espalier.errors import RecipeError
from espalier.models import import_object
from espalier.planning import Plan, plan
from espalier.recipe._methods import cadence_in_steps
from espalier.recipe._recipe import Recipe, expanded
from espalier.recipe._sections import Data, Training
from espalier.runs import FreezeGradually, Quantise, SearchBits
from espalier.search._latency import plan_for_latency
from espalier.solvers import Constant, Solver
from espalier.training import Training as FitTraining

ALLOCATIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "uniform": budgets.uniform,
        "erk": budgets.erk,
        "global": budgets.global_magnitude,
        "shared": budgets.shared,
    }
)
"""Budget rules by the name a recipe gives them."""


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


def make_task(recipe: Recipe) -> tasks.Classification:
    """Batches, loss and evaluation; the data are read now.

    Raises:
        RequestError: A name or option that does not exist.
        DataError: A file is missing or corrupt.
    """
    section, training = recipe.data, recipe.training
    path = None if section.path is None else expanded(section.path)
    split = data.load(section.name, path, normalise=section.normalise, **section.options)
    return tasks.Classification(
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


def _augment(section: Data) -> data.Augment | None:
    if section.augment is None:
        return None
    if ":" in section.augment:
        found: data.Augment = import_object(section.augment)
        return found
    return data.augmentation(section.augment)


def make_model(recipe: Recipe, classes: int) -> nn.Module:
    """The network on its device: weights drawn from ``training.seed``, then those of the file, if any.

    Args:
        recipe: The recipe.
        classes: Of the data; for our own networks unless their arguments say otherwise.

    Raises:
        RequestError: No such network, or arguments it does not take.
        CheckpointError: The weights do not fit.
    """
    section = recipe.model
    arguments = dict(section.arguments)
    if section.name in models.NAMES:
        arguments.setdefault("classes", classes)
    torch.manual_seed(recipe.training.seed)
    model = models.build(section.name, **arguments)
    if section.weights is not None:
        models.load_weights(model, expanded(section.weights))
    return model.to(make_device(recipe.training.device))


def make_plan(recipe: Recipe, model: nn.Module, task: tasks.Task) -> Plan:
    """What each parameter may keep, for the weights as they are.

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
        "set": section.set.build(),
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
            target = section.latency
            found = plan_for_latency(model, task.example_input, target, threads=threads, **wanted)
            return found.plan
        return plan(
            model,
            allocation=ALLOCATIONS[section.allocation],
            example_input=task.example_input,
            **wanted,
            **figures,
        )
    finally:
        model.train(was_training)


def make_solver(recipe: Recipe, steps_per_epoch: int) -> Solver:
    """The solver; a cadence in epochs becomes one in steps."""
    cadence = recipe.solver.model_dump()["cadence"]
    solver: Solver = recipe.solver.build(cadence=cadence_in_steps(cadence, steps_per_epoch))
    return solver


def make_quantise(recipe: Recipe, steps_per_epoch: int) -> Quantise | None:
    """How the survivors are quantised, if at all; its solver neither opens nor settles.

    Raises:
        RequestError: Settings that do not go together.
    """
    section = recipe.quantise
    if section is None:
        return None
    cadence = cadence_in_steps(section.solver.model_dump()["cadence"], steps_per_epoch)
    bits: Any = section.bits
    if section.search is not None:
        bits = SearchBits(**section.search.model_dump())
    freeze = None
    if section.freeze is not None:
        freeze = FreezeGradually(
            training=make_training(recipe, recipe.training.of(section.freeze)),
            rounds=section.freeze.rounds,
            fraction=section.freeze.fraction,
        )
    return Quantise(
        bits=bits,
        solver=section.solver.build(cadence=cadence, continuation=Constant(), settle=None),
        training=make_training(recipe, recipe.training.of(section)),
        freeze=freeze,
    )


def make_training(recipe: Recipe, phase: Training) -> FitTraining:
    """How to train in one phase, as the training loop takes it.

    Raises:
        RequestError: Settings that do not go together.
    """
    return FitTraining(
        epochs=phase.epochs,
        lr=phase.lr,
        optimizer=phase.optimiser.build(),
        schedule=phase.schedule.build(),
        clip=phase.clip,
        autocast=phase.autocast is not None,
        evaluate_every=recipe.evaluate_every,
    )
