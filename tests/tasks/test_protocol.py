"""Nothing above `tasks` knows a particular task (what the import contract cannot see)."""

import ast
from pathlib import Path

import pytest

import espalier

HOUSE = Path(espalier.__file__).parent
ABOVE = sorted(f for f in HOUSE.rglob("*.py") if "tasks" not in f.relative_to(HOUSE).parts)
PARTICULAR = {"Classification", "FromLoaders"}


def liberties(text: str) -> list[str]:
    """Particular tasks that a module names, and parts of a task that no task need have."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            found += [alias.name for alias in node.names if alias.name in PARTICULAR]
        elif isinstance(node, ast.Attribute):
            owner = node.value
            named = getattr(owner, "attr", getattr(owner, "id", None))
            if named == "tasks" and node.attr in PARTICULAR:
                found.append(f"tasks.{node.attr}")
            if named == "task" and node.attr in ("train", "test", "calibration", "goal_metric"):
                found.append(f"task.{node.attr}")
    return found


@pytest.mark.parametrize("file", ABOVE, ids=lambda f: str(f.relative_to(HOUSE)))
def test_a_module_above_tasks_knows_the_protocol_alone(file):
    allowed = ["Classification"] if file == HOUSE / "recipe/_building.py" else []
    assert liberties(file.read_text(encoding="utf-8")) == allowed


def test_liberties_are_noticed():
    text = """
from espalier.tasks import Classification
def f(job, task):
    return len(job.task.train), task.goal_metric, tasks.FromLoaders
"""
    assert sorted(liberties(text)) == [
        "Classification", "task.goal_metric", "task.train", "tasks.FromLoaders",
    ]  # fmt: skip
