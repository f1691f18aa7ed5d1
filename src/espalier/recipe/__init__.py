"""Recipes: validated YAML that says all of a run; see ``docs/recipe.schema.json``."""

from espalier.recipe._methods import SOLVERS
from espalier.recipe._optimising import LearningRate, Optimiser
from espalier.recipe._overriding import override
from espalier.recipe._paths import expanded
from espalier.recipe._recipe import Recipe, load, validate
from espalier.recipe._schema import json_schema

__all__ = [
    "SOLVERS",
    "LearningRate",
    "Optimiser",
    "Recipe",
    "expanded",
    "json_schema",
    "load",
    "override",
    "validate",
]
