"""Members of a family are found by themselves; two of one name are refused; others are named by their path."""

import importlib
import sys
from abc import ABC, abstractmethod
from pathlib import Path

import pytest

from espalier._ground.registry import Family, Members, family, reference, resolve
from espalier.errors import RequestError, UnknownNameError
from espalier.metrics import Identity, Metric
from espalier.sets import NAMES, Filters, Set, parse
from espalier.solvers import SLR, Solver

BASE = """
from abc import ABC, abstractmethod
from espalier._ground.registry import Family

class Tree(Family, ABC):
    name: str
    @abstractmethod
    def grow(self): ...
"""
INIT = """
from espalier._ground.registry import discover
from {package}._tree import Tree
__all__ = ["Tree"]
discover(__name__, globals())
"""
OAK = """
from {package}._tree import Tree

class Oak(Tree):
    \"\"\"A slow ``tree``.

    More of it.
    \"\"\"
    name = "oak"
    def grow(self): return 1

class Half(Tree):
    name = "half"
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with a family and one file of members."""
    name = f"orchard_{abs(hash(tmp_path)):x}"
    at = tmp_path / name
    at.mkdir()
    for file, text in {"_tree": BASE, "__init__": INIT, "_oak": OAK}.items():
        (at / f"{file}.py").write_text(text.replace("{package}", name))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield at
    for module in [m for m in sys.modules if m.partition(".")[0] == name]:
        del sys.modules[module]


def test_a_file_is_found_and_its_class_is_a_public_name_of_the_package(package: Path):
    found = importlib.import_module(package.name)
    assert list(Members(found.Tree)) == ["oak"]  # Half is abstract
    assert found.Oak is Members(found.Tree)["oak"]
    assert set(found.__all__) == {"Tree", "Oak", "Half"}
    assert found.Oak.sentence == "A slow tree."


def test_two_members_of_one_name_are_refused_and_both_are_named(package: Path):
    (package / "_other.py").write_text((package / "_oak.py").read_text().replace("Oak", "Elm"))
    with pytest.raises(RequestError) as caught:
        importlib.import_module(package.name)
    assert "two classes are called" in str(caught.value)
    assert f"{package.name}._oak:" in str(caught.value)
    assert f"{package.name}._other:" in str(caught.value)


def test_a_member_made_again_takes_its_own_place(package: Path):
    found = importlib.import_module(package.name)
    importlib.reload(importlib.import_module(f"{package.name}._oak"))
    assert Members(found.Tree)["oak"] is not found.Oak


def test_a_class_outside_the_package_takes_no_name_away():
    class Mine(SLR):
        name = "slr"

    class Local(Metric):
        name = "local"

        def gauge(self, model, names, optimizer):
            raise NotImplementedError

    assert Members(Solver)["slr"] is SLR
    assert "local" not in Members(Metric)
    assert reference(Mine).endswith("<locals>.Mine")
    assert (reference(SLR), reference(Filters), family(Identity)) == ("slr", "filters", Metric)


class Striped(Filters):
    """A set of this file."""


def test_a_set_of_ones_own_is_written_to_plans_by_its_path_and_read_back():
    assert Striped().spec() == f"{__name__}:Striped"
    assert "filters" in NAMES
    assert parse(Striped().spec()) == Striped()


def test_a_file_is_not_enough_to_have_a_module_imported(tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UnknownNameError, match="import trap first"):
        parse("trap:Set")
    assert "trap" not in sys.modules


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("filter", UnknownNameError, "no set is called 'filter'; did you mean 'filters'"),
        (
            "espalier.solvers:SLR",
            RequestError,
            "is no set; name a class derived from espalier.sets.Set",
        ),
        ("math:pi", RequestError, "math:pi is no set"),
        ("espalier.sets:GroupSet", RequestError, "abstract: it does not define layout"),
        ("espalier.sets:Filter", UnknownNameError, "did you mean 'Filters'"),
        ("nowhere.at:All", UnknownNameError, "no module named 'nowhere'"),
        ("a b:C", RequestError, "not of the form package.module"),
    ],
)
def test_what_is_no_class_of_the_family_is_refused(spec, error, message):
    with pytest.raises(error) as caught:
        resolve(spec, Set)
    assert message in str(caught.value)


def test_an_abstract_class_becomes_a_member_when_nothing_is_missing():
    class Base(Family, ABC):
        @abstractmethod
        def go(self): ...

    assert list(Members(Base)) == []
    assert resolve("espalier.sets:Filters", Set) is Filters
