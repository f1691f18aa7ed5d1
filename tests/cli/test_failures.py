"""Whatever fails at the command line is one message; the user's own errors keep the user's lines alone."""

import pytest

from espalier.cli._failures import own_lines, sentence

MODULE = """
import espalier
from torch import nn

def missing():
    with open("nowhere.bin") as file:
        return file

def wrong():
    return nn.Linear(2, 2)(None)

def refused():
    return espalier.models.build("lenet6")

class Net(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.a = nn.Linear(784, classes)

    def forward(self, x):
        return self.a(x.flatten(1)) + self.b
"""
BROKEN = "import os\n\n1 / 0\n"


@pytest.fixture
def own(place, monkeypatch):
    (place / "own_code.py").write_text(MODULE)
    (place / "broken_code.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(place)
    return place


CASES = {
    "own_code:missing": ("FileNotFoundError", 'with open("nowhere.bin")'),
    "own_code:wrong": ("TypeError", "nn.Linear(2, 2)(None)"),
    "own_code:refused": ("no model 'lenet6'", 'espalier.models.build("lenet6")'),
    "broken_code:make": ("ZeroDivisionError", "1 / 0"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_users_errors_keep_the_users_lines_and_lose_ours(name, own, espalier, recipe):
    answer = espalier("plan", recipe(model=name))
    said, line = CASES[name]
    assert answer.status in (1, 2)
    assert answer.err.startswith("error: ")
    assert line in answer.err
    assert said in answer.err
    assert "src/espalier" not in answer.err
    assert "site-packages" not in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("out", ["file/run", "x" * 300, "/proc/nobody/may/write/here", "a\0b"])
@pytest.mark.parametrize("command", ["prune", "compare"])
def test_an_output_path_that_cannot_be_is_one_message(command, out, place, espalier, recipe):
    (place / "file").write_text("x")
    answer = espalier(command, recipe(), "--out", out)
    assert answer.status in (1, 2)
    assert answer.err.count("error: ") == 1
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("out", ["file/report.html", "x" * 300, "a\0b", ".", ".."])
def test_an_output_file_that_cannot_be_is_one_message(out, place, espalier):
    import torch

    from espalier import packing

    (place / "file").write_text("x")
    packing.pack(place / "w.packed", {"w": torch.ones(3)})
    answer = espalier("unpack", "w.packed", "--out", out)
    assert answer.status in (1, 2)
    assert answer.err.startswith("error: ")


def test_more_threads_than_any_machine_has_are_refused(espalier, recipe):
    answer = espalier("plan", recipe(training__threads=100_000))
    assert answer.status == 2
    assert "training.threads: 100000 should be less than or equal to 1024" in answer.err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device", "a.bin"), "a.bin: No space left on device"),
        (OSError("odd"), "odd"),
        (MemoryError(), "not enough memory"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            "not enough memory",
        ),
        (RecursionError(), "nested too deep"),
        (ValueError("embedded null byte"), "no name of a file"),
    ],
    ids=range(6),
)
def test_what_the_machine_refuses_is_a_sentence(error, said):
    assert said in (sentence(error) or "")


@pytest.mark.parametrize("error", [ValueError("odd"), KeyError("x"), RuntimeError("shape")])
def test_a_mistake_of_ours_is_no_sentence_and_has_no_lines_of_the_users(error):
    assert sentence(error) is None
    assert own_lines(error) == ""


def test_the_lines_of_a_compiled_library_are_not_the_users(espalier, recipe):
    answer = espalier("plan", recipe(), "--set", "training.lr=[1")
    assert answer.err.count("\n") == 1
    assert ".pyx" not in answer.err
