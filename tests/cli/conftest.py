"""A job of a second, and the command line around it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from espalier.cli import main

TINY: dict[str, Any] = {
    "model": "lenet300",
    "data": {"name": "digits", "limit_train": 160, "limit_test": 50},
    "plan": {"compression": 10},
    "pretrain": {"epochs": 1},
    "solver": {"method": "slr", "cadence": 2},
    "training": {"epochs": 2, "batch_size": 32},
    "retrain": {"epochs": 1},
}


def changed(content: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy of nested data with dotted keys set; None takes the key away."""
    content = yaml.safe_load(yaml.safe_dump(content))
    for path, value in changes.items():
        *above, key = path.split(".")
        at = content
        for name in above:
            if not isinstance(at.get(name), dict):
                at[name] = {}
            at = at[name]
        if value is None:
            at.pop(key, None)
        else:
            at[key] = value
    return content


@dataclass(frozen=True)
class Answer:
    status: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads only wait for one another on a network this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def recipe(place: Path) -> Callable[..., Path]:
    """Writes the tiny recipe, changed, and says where."""

    def write(name: str = "tiny.yaml", **changes: Any) -> Path:
        dotted = {key.replace("__", "."): value for key, value in changes.items()}
        path = place / name
        path.write_text(yaml.safe_dump(changed(TINY, dotted), sort_keys=False))
        return path

    return write


@pytest.fixture
def espalier(capfd: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """The command line in this process: an exception that gets out fails the test."""

    def call(*arguments: object) -> Answer:
        capfd.readouterr()
        status = main([str(argument) for argument in arguments])
        shown = capfd.readouterr()
        return Answer(status, shown.out, shown.err)

    return call
