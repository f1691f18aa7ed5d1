"""`task:` in a recipe: the user's own function in place of `data:`."""

import sys

import pytest

from espalier.errors import RecipeError, RequestError
from espalier.recipe import override, validate
from espalier.recipe._building import make_model, make_task
from espalier.tasks import FromLoaders

GOOD = {
    "model": "lenet5",
    "plan": {"density": 0.1},
    "training": {"epochs": 2, "batch_size": 4, "seed": 3},
}

MODULE = """
import torch
from torch.utils.data import DataLoader, TensorDataset
from espalier import tasks

SEEN = {}

def own(batch_size, seed, device, *, count=12, **rest):
    SEEN.update(batch_size=batch_size, seed=seed, device=device, rest=rest)
    pairs = TensorDataset(torch.zeros(count, 1, 28, 28), torch.arange(count) % 3)
    return tasks.FromLoaders(
        tasks.seeded_loader(pairs, batch_size, seed), DataLoader(pairs, 5),
        loss=torch.nn.functional.cross_entropy, device=device, seed=seed,
        model_arguments={"classes": 3, "colours": 1},
    )

def plain():
    return own(2, 0, "cpu")

class Half:
    goal = None
    steps_per_epoch = 1
    def loss(self, model, batch): ...
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The module `own_task`, fresh."""
    (tmp_path / "own_task.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_task", raising=False)
    import own_task

    yield own_task
    monkeypatch.delitem(sys.modules, "own_task", raising=False)


def recipe(task):
    return validate({**GOOD, "task": task})


def test_the_function_receives_what_it_has_arguments_for(own):
    task = make_task(recipe("own_task:own"))
    assert isinstance(task, FromLoaders)
    assert task.steps_per_epoch == 3
    assert {k: str(v) for k, v in own.SEEN.items()} == {
        "batch_size": "4", "seed": "3", "device": "cpu", "rest": "{}",
    }  # fmt: skip
    assert make_task(recipe("own_task:plain")).steps_per_epoch == 6


def test_arguments_of_the_recipe_reach_it_and_come_first(own):
    task = make_task(
        recipe({"name": "own_task:own", "arguments": {"count": 20, "batch_size": 10, "more": 1}})
    )
    assert task.steps_per_epoch == 2
    assert own.SEEN["rest"] == {"more": 1}


@pytest.mark.usefixtures("own")
def test_what_the_task_says_of_the_model_reaches_ours_as_far_as_it_takes_it():
    one = recipe("own_task:own")
    model = make_model(one, make_task(one).model_arguments)
    assert model.fc2.out_features == 3
    said = validate(
        {**GOOD, "task": "own_task:own", "model": {"name": "lenet5", "arguments": {"classes": 7}}}
    )
    assert make_model(said, make_task(said).model_arguments).fc2.out_features == 7


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("task", "says"),
    [
        ("own_task:Half", "Half without example_input, model_arguments, batches, evaluate, inputs, guard"),
        ("own_task:nothing", "no attribute 'nothing'"),
        ("own_task:SEEN", "name a function"),
        ("own_task", "no task .own_task.; Allowed: detection, image_folder, language, or package.module:function"),
        ({"name": "own_task:plain", "arguments": {"count": 3}}, "unexpected keyword argument 'count'"),
    ],
)  # fmt: skip
def test_a_function_that_makes_no_task_is_refused(task, says):
    with pytest.raises(RequestError, match=says):
        make_task(recipe(task))


@pytest.mark.parametrize(
    ("sections", "got"), [({}, "neither"), ({"data": "digits", "task": "a.b:c"}, "both")]
)
def test_a_recipe_has_data_or_a_task(sections, got):
    with pytest.raises(RecipeError, match=f"give exactly one of data, task; got {got}"):
        validate({**GOOD, **sections})


def test_the_resolved_settings_and_set_keep_the_task():
    one = recipe("a.b:c")
    assert validate(one.settings()) == one
    changed = override({**GOOD, "task": "a.b:c"}, "task.arguments.length=3")
    assert validate(changed).task.arguments == {"length": 3}
    assert validate(changed).task.name == "a.b:c"


def test_data_named_again_over_a_task_need_null():
    content = override(override({**GOOD, "task": "a.b:c"}, "task=null"), "data=digits")
    assert validate(content).data.name == "digits"
