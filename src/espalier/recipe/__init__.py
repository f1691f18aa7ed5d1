"""Recipes: validated YAML that says all of a run; see ``docs/recipe.schema.json``."""

from espalier.recipe.methods import SOLVERS
from espalier.recipe.overriding import override
from espalier.recipe.recipe import Recipe, expanded, load, validate
from espalier.recipe.schema import json_schema

__all__ = ["SOLVERS", "Recipe", "expanded", "json_schema", "load", "override", "validate"]
