"""The contracts on imports (pyproject.toml, [tool.importlinter]) hold, and notice when they do not."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytest.importorskip("importlinter")


def lint(where: Path) -> subprocess.CompletedProcess[str]:
    """Lint the package that lies in ``where``, which comes first on the path."""
    program = "import sys; from importlinter.cli import lint_imports_command as run; run()"
    arguments = ["--no-cache", "--config", str(ROOT / "pyproject.toml")]
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=where,
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_imports_follow_the_road():
    found = lint(ROOT / "src")
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("sets/filters.py", "from espalier import planning", "one way"),
        ("solvers/slr.py", "from espalier.planning import Plan", "one way"),
        ("solvers/slr.py", "from espalier.sets import Filters", "models or data"),
        ("models/lenet.py", "from espalier import sets", "know nothing of pruning"),
        ("sets/filters.py", "import pydantic", "torch and numpy alone"),
        ("cli/_prune.py", "import espalier.tasks._classification", "a particular task"),
        ("homeless.py", "", "one way"),
    ],
)
def test_a_wrong_import_is_noticed(tmp_path, module, line, contract):
    package = tmp_path / "espalier"
    shutil.copytree(
        ROOT / "src" / "espalier", package, ignore=shutil.ignore_patterns("__pycache__")
    )
    with (package / module).open("a") as file:
        file.write(f"\n{line}\n")
    found = lint(tmp_path)
    assert found.returncode == 1, found.stdout + found.stderr
    assert f"{contract} BROKEN" in found.stdout
