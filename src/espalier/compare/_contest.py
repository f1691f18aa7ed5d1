"""Who competes: each method's recipe, alike in all that methods share."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from espalier._ground.registry import is_reference
from espalier.errors import RecipeError, UnknownNameError, nearest
from espalier.recipe import SOLVERS, Recipe, validate
from espalier.solvers import Constant, Gradual, Solver

DENSE = "dense"
"""The method that prunes nothing: the same epochs of the same training."""


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One method with one seed.

    Attributes:
        label: What the method is called in this comparison.
        method: Its name, or ``dense``.
        seed: Of the first weights and the data order.
        settings: What was said of it beyond the method's defaults.
        recipe: The whole recipe of its run.
        content: The same as plain data.
    """

    label: str
    method: str
    seed: int
    settings: Mapping[str, Any]
    recipe: Recipe
    content: Mapping[str, Any]

    @property
    def folder(self) -> str:
        """The name of its run folder."""
        return f"{self.label.replace(':', '.')}-seed{self.seed}"


def contestants(
    name: str,
    recipe: Recipe,
    content: Mapping[str, Any],
    *,
    methods: Sequence[str] | None = None,
    seeds: int | None = None,
    published_cadence: bool = False,
    prefix: bool = False,
) -> list[Contestant]:
    """The contestants of one recipe, method by method, seed by seed.

    Every method is given what the recipe says of its own solver, as far as the method has such a setting;
    then what ``compare.methods`` says of that method. The cadence is the recipe's for all of them unless
    ``compare.methods`` or ``published_cadence`` says otherwise.

    Args:
        name: Of the recipe; the file in messages.
        recipe: The recipe.
        content: The plain data it came from.
        methods: Labels of ``compare.methods``, names of solvers, or ``dense``; by default those of
            ``compare.methods``, and without it the recipe's own solver.
        seeds: How many, counting up from ``training.seed``; by default ``compare.seeds``.
        published_cadence: Each as often as its paper updates: SLR once per epoch, ADMM once in ten.
        prefix: Put the recipe's name before each label, where several recipes are compared.

    Raises:
        UnknownNameError: No such method.
        RecipeError: Settings that the method does not have.
    """
    own = recipe.compare.methods
    asked = list(methods or own or [recipe.solver.model_dump()["method"]])
    doubled = {label for label in asked if asked.count(label) > 1}
    if doubled:
        raise RecipeError(
            f"the method {min(doubled)!r} is asked for twice; give it once, or two labels"
        )
    found = []
    for label in asked:
        said = dict(own.get(label, {}))
        method = str(said.pop("method", label))
        if method not in SOLVERS and method != DENSE and not is_reference(method):
            hint = nearest(method, {*SOLVERS, *own, DENSE})
            raise UnknownNameError(f"no method {method!r}; {hint}")
        if method == DENSE and said:
            raise RecipeError(f"{name}: compare.methods.{label}: dense training has no settings")
        settings = _settings(recipe, method, said, published_cadence)
        for k in range(seeds or recipe.compare.seeds):
            seed = recipe.training.seed + k
            data = _content(content, method, settings, seed)
            found.append(
                Contestant(
                    label=f"{name}-{label}" if prefix else label,
                    method=method,
                    seed=seed,
                    settings=settings,
                    recipe=validate(data, f"{name}: compare.methods.{label}"),
                    content=data,
                )
            )
    return found


def _settings(
    recipe: Recipe, method: str, said: Mapping[str, Any], published_cadence: bool
) -> dict[str, Any]:
    if method == DENSE:
        return {}
    base = recipe.solver.model_dump(mode="json")
    section = SOLVERS.of(method)
    # The cadence is every method's to share, even where the recipe leaves it to its default.
    given = {*recipe.solver.model_fields_set, "cadence"} & set(base) - {"method"}
    carried = given if base["method"] == method else given & _shared(section.target)
    settings = {key: base[key] for key in sorted(carried)}
    opening = settings.get("continuation", {}).get("method")
    if issubclass(section.target, Gradual) and opening == Constant.name:
        del settings["continuation"]  # without a schedule of the budget it would not be gradual
    published = section.target.published_cadence
    if published_cadence and published and "cadence" in section.model_fields:
        settings["cadence"] = published
    if "opening" in said:
        settings.pop("continuation", None)  # two words for one thing
    return {**settings, **said}


def _shared(target: type[Any]) -> set[str]:
    """The settings of another method that mean the same to this one.

    Those around a solver which it says it takes, and parameters of its own of the same name, such as ρ. A
    method that is no solver takes what it declares in ``takes``, and nothing by coincidence of names.
    """
    takes = set(getattr(target, "takes", ()))  # a procedure of several stages has none
    own = {field.name for field in fields(target)}
    return takes | own if issubclass(target, Solver) else takes & own


def _content(
    content: Mapping[str, Any], method: str, settings: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    data = copy.deepcopy(dict(content))
    data.pop("compare", None)
    data.pop("method", None)  # the other word for ``solver``, which is set below
    data["training"] = {**data["training"], "seed": seed}
    if method == DENSE:
        data["solver"] = {"method": "oneshot"}
        data["plan"] = {"density": 1.0}
        data.pop("retrain", None)
        data.pop("goal", None)
    else:
        data["solver"] = {"method": method, **copy.deepcopy(dict(settings))}
    return data
