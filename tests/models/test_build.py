import sys

import pytest
from torch import nn

from espalier import models
from espalier.errors import RequestError, UnknownNameError

SOURCE = """
from torch import nn

def make(width=2):
    return nn.Linear(width, 1)

class Net(nn.Linear):
    def __init__(self):
        super().__init__(1, 1)

class Outer:
    make = staticmethod(make)

def number():
    return 3

def breaks():
    raise TypeError("my own mistake")

value = 5
"""


@pytest.fixture
def own_code(tmp_path, monkeypatch):
    """Modules of the user's own in the current directory."""
    (tmp_path / "own_nets.py").write_text(SOURCE)
    (tmp_path / "own_broken.py").write_text("import a_module_that_is_not_there\n")
    (tmp_path / "own_syntax.py").write_text("def (:\n")
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "nets.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    yield
    for name in [each for each in sys.modules if each.startswith("own_")]:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["own_nets:make", "own_package.nets:make", "own_nets:Outer.make"])
def test_the_users_own_function_is_found_in_the_current_directory(own_code, name):
    model = models.build(name, width=7)
    assert isinstance(model, nn.Linear)
    assert model.in_features == 7


def test_a_class_will_do(own_code):
    assert type(models.build("own_nets:Net")).__name__ == "Net"


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("lenet-5", UnknownNameError, r"no model 'lenet-5'; did you mean 'lenet5'\?"),
        ("own_net:make", UnknownNameError, r"no module named 'own_net' in .*or among the inst"),
        ("own_package.net:make", UnknownNameError, r"no module named 'own_package.net'"),
        (
            "own_nets:mako",
            UnknownNameError,
            r"own_nets has no attribute 'mako'; did you mean 'make",
        ),
        ("own_nets:Outer.mako", UnknownNameError, r"Outer has no attribute 'mako'"),
        ("own_broken:make", RequestError, r"importing own_broken failed: No module named 'a_mod"),
        ("own_syntax:make", RequestError, r"importing own_syntax failed: SyntaxError"),
        ("own_nets:number", RequestError, r"own_nets:number returned a int; .*nn\.Module"),
        ("own_nets:value", RequestError, r"own_nets:value is a int; name a function"),
        ("own_nets:", RequestError, r"'own_nets:' is not of the form package\.module:function"),
        ("own nets:make", RequestError, r"not of the form"),
    ],
)
def test_what_cannot_be_built_is_told(own_code, name, error, says):
    with pytest.raises(error, match=says) as caught:
        models.build(name)
    assert type(caught.value) is error


def test_arguments_that_do_not_fit_are_refused_beforehand(own_code):
    with pytest.raises(
        RequestError,
        match=r"lenet5: .*'clases'; it takes \(classes: int = 10, batchnorm: bool = False\)",
    ):
        models.build("lenet5", clases=3)
    with pytest.raises(RequestError, match=r"own_nets:make: .*'depth'"):
        models.build("own_nets:make", depth=3)


def test_a_mistake_inside_the_users_function_is_not_relabelled(own_code):
    with pytest.raises(TypeError, match="my own mistake"):
        models.build("own_nets:breaks")
