"""The scripts of examples/ run, prune, and need no more lines than they say."""

import importlib.util
import re
import runpy
import sys
import warnings
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parents[1] / "examples"
ADDED = {
    "own_loop": 2,
    "with_trainer": 1,
    "with_lightning": 1,
    "with_accelerate": 2,
    "with_fabric": 2,
}
NEEDS = {
    "with_trainer": "transformers", "with_lightning": "lightning", "with_accelerate": "accelerate",
    "with_fabric": "lightning",
}  # fmt: skip


def test_every_example_is_tested():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(ADDED)


@pytest.mark.parametrize("name", ADDED)
def test_so_many_lines_are_added_to_a_script_that_trains_without_them(name):
    text = (EXAMPLES / f"{name}.py").read_text()
    lines = text.splitlines()
    assert sum(line.endswith("  # added") for line in lines) == ADDED[name]
    without = [line for line in lines if not line.endswith("  # added")]
    compile("\n".join(without), name, "exec")
    code = "\n".join(line for line in without if "import" not in line)
    assert not re.search(r"\besp\.|Pruning\(|pruning\b(?!\w).*\(", code.partition('"""\n')[2])


@pytest.mark.slow
@pytest.mark.parametrize("name", ADDED)
def test_it_prunes(name, vision, tmp_path, monkeypatch, capsys):
    pytest.importorskip("sklearn")
    if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name])
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    said = capsys.readouterr().out
    left, accuracy = re.search(r"([\d.]+)% of the weights left, accuracy ([\d.]+)%", said).groups()
    assert float(left) == (20.0 if name == "with_trainer" else 5.0)
    assert float(accuracy) > 85
