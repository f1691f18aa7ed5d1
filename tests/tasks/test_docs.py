"""The page on tasks: its example is a task, and does what the page says."""

import re
from pathlib import Path

import torch
from torch import nn

from espalier.recipe import validate
from espalier.recipe._yaml import parse
from espalier.tasks import Task

PAGE = Path(__file__).parents[2] / "docs/tasks.md"


def blocks():
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)


class Net(nn.Linear):
    def forward(self, *, x):
        return super().forward(x)


def test_the_example_of_the_page_is_a_task_that_resumes_exactly():
    names: dict = {}
    for block in blocks():
        exec(compile(block, str(PAGE), "exec"), names)
    task = names["readings"](batch_size=64, seed=0, device="cpu")
    assert isinstance(task, Task)
    assert task.resumes_exactly
    assert task.steps_per_epoch == 10
    torch.manual_seed(0)
    model = Net(6, 2)
    found = task.evaluate(model)
    assert set(found) == {"wrong", "loss"}
    assert task.goal.reached(found["wrong"], 1.0)
    whole, rest = list(task.batches(1)), list(task.batches(1, start=7))
    assert all(
        torch.equal(a.inputs["x"], b.inputs["x"]) for a, b in zip(whole[7:], rest, strict=True)
    )
    assert task.loss(model, whole[0]).requires_grad
    assert set(names["own"]) == {"target", "loss", "metrics"}


def test_the_recipe_of_the_page_on_detection_is_one():
    text = (PAGE.parent / "detection.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```yaml\n(.*?)^```", text, re.M | re.S)
    assert validate(parse(block, "detection.md")).task.name == "detection"
