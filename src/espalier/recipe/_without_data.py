"""A plan of a recipe whose data are not there: counts and multiply-accumulates need none."""

from types import SimpleNamespace
from typing import Any

import torch

from espalier import data, models, tasks
from espalier.planning import Plan
from espalier.recipe._building import make_model, make_plan
from espalier.recipe._recipe import Recipe

_PHOTO = (3, 224, 224)


def plan_without_data(recipe: Recipe) -> Plan | None:
    """The plan for newly drawn weights and one input of the model's usual size.

    Returns:
        None where that cannot be: a model of the user's own, whose input nobody knows, or a budget that looks at
        the data.

    Raises:
        EspalierError: The recipe itself is wrong.
    """
    shape = _input(recipe.model.name)
    if shape is None or recipe.plan.ranking is not None:
        return None
    section = recipe.model.model_copy(update={"weights": None})
    recipe = recipe.model_copy(update={"model": section})
    stand_in: Any = SimpleNamespace(example_input=torch.zeros(1, *shape))
    return make_plan(recipe, make_model(recipe, {}), stand_in)


def source(recipe: Recipe) -> str:
    """Where to get the data of a recipe, and how to lay them out."""
    section = recipe.data or recipe.task
    sources = {name: info.source for name, info in data.NAMES.items()}
    sources |= {name: info.source for name, info in tasks.NAMES.items()}
    found = sources.get("" if section is None else section.name)
    return "" if found is None else f"to get the data: {found}"


def _input(name: str) -> tuple[int, int, int] | None:
    if name in models.NAMES:
        return models.NAMES[name].input_shape
    return _PHOTO if name.partition(":")[0] in ("torchvision", "timm") else None
