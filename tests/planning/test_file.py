import os

import pytest
import torch
import yaml
from torch import nn

from espalier import budgets, models
from espalier.errors import (
    BudgetError,
    CheckpointError,
    RequestError,
    RunFolderError,
    ShapeError,
    UnknownNameError,
)
from espalier.planning import Plan, plan
from espalier.sets import (
    Along,
    Coupled,
    Filters,
    FiltersAndColumns,
    NOfM,
    Shared,
    Unstructured,
)


def _lenet(**arguments):
    torch.manual_seed(0)
    return plan(models.build("lenet5"), **arguments)


def _tied():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    return plan(model, keep={"*": 3})


def _attention():
    model = nn.TransformerEncoderLayer(8, 2, 16)
    return plan(model, density=0.5, example_input=torch.zeros(2, 3, 8))


_IMAGE = torch.zeros(1, 1, 28, 28)
_PLANS = {
    "macs": lambda: _lenet(density=0.1, example_input=_IMAGE),
    "several sets": lambda: _lenet(density=0.5, set={"c*": Filters(), "fc1*": NOfM(2, 4)}),
    "pairs": lambda: _lenet(density=0.25, set=FiltersAndColumns(), include=["*"]),
    "shared": lambda: _lenet(macs=0.5, allocation=budgets.shared, example_input=_IMAGE),
    "tied": _tied,
    "attention": _attention,
}


@pytest.mark.parametrize("name", _PLANS)
def test_a_saved_plan_comes_back_equal(name, tmp_path):
    p = _PLANS[name]()
    path = tmp_path / "plan.yaml"
    p.save(path)
    back = Plan.load(path)
    assert back == p
    assert list(back.entries) == list(p.entries)
    assert back.counts() == p.counts()
    assert (back.macs, back.macs_left) == (p.macs, p.macs_left)
    assert Plan.from_dict(p.to_dict()) == p
    assert os.listdir(tmp_path) == ["plan.yaml"]


_OF_VERSION_1 = """
espalier_plan: 1
parameters:
  a.weight: {shape: [2, 2], set: filters, keep: 1, layer_kind: linear, macs: 4}
  a.bias: {shape: [2], set: unstructured, keep: 1, layer_kind: bias, macs: 0}
coupled:
  groups: [[1, 2]]
  members:
    a.weight: {axis: 0, units: [[0, 2, 1]]}
    a.bias: {axis: 0, units: [[0, 2, 1]]}
  implied:
    b.weight: [{axis: 1, units: [[0, 2, 1]]}]
skipped:
  b.weight: {shape: [3, 2], reason: "its channels stay", layer_kind: linear, macs: 6, left: 3}
"""
_SHARED_OF_VERSION_1 = """
espalier_plan: 1
parameters:
  v: {shape: [2, 2], set: unstructured, keep: 2, layer_kind: linear}
  w: {shape: [2], set: unstructured, keep: 1, layer_kind: linear}
shared: {set: unstructured, costs: {v: 1, w: 2}, limit: 4, minimum: 1}
"""


def test_plans_of_version_1_are_read(tmp_path):
    (tmp_path / "coupled.yaml").write_text(_OF_VERSION_1)
    (tmp_path / "shared.yaml").write_text(_SHARED_OF_VERSION_1)
    p = Plan.load(tmp_path / "coupled.yaml")
    line = Along(0, (0, 1))
    assert p.parts == (
        Coupled(
            sizes=(2,), keep=(1,), members={"a.weight": line, "a.bias": line},
            implied={"b.weight": (Along(1, (0, 1)),)},
        ),
    )  # fmt: skip
    assert (p.macs, p.macs_left) == (10, 5)
    p.save(tmp_path / "again.yaml")
    assert Plan.load(tmp_path / "again.yaml") == p
    q = Plan.load(tmp_path / "shared.yaml")
    assert q.parts == (Shared(Unstructured(), {"v": 1, "w": 2}, 4, 1),)
    assert Plan.from_dict(q.to_dict()) == q


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    p = plan(nn.Linear(4, 4), density=0.5)
    path = tmp_path / "plan.yaml"
    p.save(path)
    before = path.read_bytes()

    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(RunFolderError, match=r"plan\.yaml: cannot be written: no space left"):
        plan(nn.Linear(4, 4), density=0.25).save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["plan.yaml"]
    with pytest.raises(RunFolderError, match="cannot be written"):
        p.save(tmp_path / "absent" / "plan.yaml")


def _edited(change):
    data = plan(nn.Linear(4, 4), density=0.5).to_dict()
    change(data)
    return data


def _set(*path, value):
    def change(data):
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return change


def _part(**part):
    return _set("parts", value=[part])


def _drop(*path):
    def change(data):
        for key in path[:-1]:
            data = data[key]
        del data[path[-1]]

    return change


W = ("parameters", "weight")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            _set("espalier_plan", value=3),
            CheckpointError,
            "espalier_plan is 3, this version reads 1 to 2",
        ),
        (_drop("espalier_plan"), CheckpointError, "espalier_plan is None"),
        (_set("paramters", value={}), UnknownNameError, "no key 'paramters'; did you mean 'param"),
        (
            _set(*W, "kep", value=3),
            UnknownNameError,
            "weight has no key 'kep'; did you mean 'keep'",
        ),
        (_set("skipped", "bias", "reson", value=""), UnknownNameError, "did you mean 'reason'"),
        (_set(*W, "set", value="filter"), UnknownNameError, r"^weight: .*did you mean 'filters'"),
        (_set(*W, "set", value={"n_of_m": {"n": 5, "m": 4}}), RequestError, "^weight: n_of_m"),
        (
            _set(*W, "layer_kind", value="linaer"),
            UnknownNameError,
            r"weight: .*did you mean 'linear'",
        ),
        (_set(*W, "keep", value=17), BudgetError, "^weight: keep=17 but there are 16 weights"),
        (_set(*W, "keep", value=[1, 2]), BudgetError, r"^weight: keep=\(1, 2\)"),
        (
            _set(*W, "keep", value="many"),
            CheckpointError,
            "weight: keep is 'many'; it must be a count",
        ),
        (_set(*W, "keep", value=True), CheckpointError, "weight: keep is True"),
        (_set(*W, "shape", value=[4, -4]), CheckpointError, "weight: shape is -4"),
        (_set(*W, "shape", value=16), CheckpointError, "weight: shape is 16; it must be a list"),
        (_set(*W, "macs", value=0.5), CheckpointError, "weight: macs is 0.5"),
        (_drop(*W, "keep"), CheckpointError, "weight has no 'keep'; the plan is cut short"),
        (_drop("parameters"), CheckpointError, "the plan has no 'parameters'"),
        (_set("parameters", value=[]), CheckpointError, "parameters is list; it must be a mapping"),
        (_set("parameters", value={}), BudgetError, "at least one parameter"),
        (_set("notes", value="x"), CheckpointError, "notes is 'x'; it must be a list"),
        (_part(shared={"set": "unstructured"}), CheckpointError, "shared has no 'costs'"),
        (_part(), CheckpointError, r"a part is \[\]; it must be one of shared, coupled"),
        (_part(halved={}), UnknownNameError, "parts has no key 'halved'"),
        (_set("shared", value={}), UnknownNameError, "the plan has no key 'shared'"),
        (_set("levels", value={"weight": 17}), RequestError, "^weight: bits=17"),
        (_set("levels", value={"wieght": 2}), UnknownNameError, "did you mean|Allowed: weight"),
        (
            _part(shared={"set": "unstructured", "costs": {"x": 1}, "limit": 3}),
            BudgetError,
            "^x: in the shared budget but not in the entries",
        ),
        (
            _part(shared={"set": "filters_and_columns", "costs": {}, "limit": 3}),
            RequestError,
            "^shared: ",
        ),
    ],
)
def test_a_damaged_plan_is_refused_in_words(change, error, message):
    with pytest.raises(error, match=message):
        Plan.from_dict(_edited(change))


def test_a_set_that_does_not_fit_the_shape_is_refused():
    with pytest.raises(ShapeError, match=r"^weight: "):
        Plan.from_dict(_edited(_set(*W, "set", value="kernel_patterns")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a plan is NoneType; it must be a mapping"),
        ("[1", "is no YAML"),
        ("- 1", "a plan is list"),
        ("!!python/object/apply:os.getcwd []", "is no YAML"),
    ],
)
def test_a_file_that_is_no_plan_is_named(text, message, tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=rf"plan\.yaml: {message}"):
        Plan.load(path)
    with pytest.raises(CheckpointError, match=r"absent\.yaml: cannot be read: No such file"):
        Plan.load(tmp_path / "absent.yaml")


def test_the_file_is_plain_yaml_in_the_order_of_the_model(tmp_path):
    path = tmp_path / "plan.yaml"
    plan(models.build("lenet5"), density=0.5, set={"c*": Filters(), "fc1*": NOfM(2, 4)}).save(path)
    data = yaml.safe_load(path.read_text())
    assert list(data["parameters"]) == ["conv1.weight", "conv2.weight", "fc1.weight"]
    assert data["parameters"]["fc1.weight"] == {
        "shape": [500, 800],
        "set": {"n_of_m": {"n": 2, "m": 4}},
        "keep": 100_000,
        "layer_kind": "linear",
    }
    assert data["skipped"]["fc2.weight"]["reason"] == "no set given"
