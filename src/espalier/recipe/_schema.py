"""The JSON schema by which editors complete recipes; kept as ``docs/recipe.schema.json``."""

import json
from typing import Any

from espalier.recipe._recipe import Recipe

HEADER = "# yaml-language-server: $schema="
"""How a recipe's first line names the schema, for editors."""


def json_schema() -> dict[str, Any]:
    """The schema of a recipe, JSON Schema 2020-12."""
    schema = Recipe.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        # What validation says in a sentence: pydantic's schema knows nothing of its validators.
        "oneOf": [{"required": ["data"]}, {"required": ["task"]}],
        "title": "Espalier recipe",
    }


def text() -> str:
    """The file as it is committed."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
