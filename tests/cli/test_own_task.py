"""Loaders of one's own from a recipe to a compact model: dict batches, a kill, a resume."""

import json
import re
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cli.job import process
from espalier.cli._purify import purified
from espalier.tasks import FromLoaders, Goal

MODULE = '''
import os

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset

from espalier import tasks


class Points(Dataset):
    """Noisy points by key; the noise is drawn from the global generator."""

    def __init__(self, count, seed):
        draw = torch.Generator().manual_seed(seed)
        self.x = torch.randn(count, 6, generator=draw)
        self.y = (self.x[:, 0] * self.x[:, 1] + self.x[:, 2] > 0).long()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return {"x": self.x[index] + 0.1 * torch.randn(6), "label": self.y[index]}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.norm = nn.Linear(6, 16), nn.BatchNorm1d(16)
        self.drop, self.b = nn.Dropout(0.2), nn.Linear(16, 2)

    def forward(self, *, x):
        return self.b(self.drop(torch.relu(self.norm(self.a(x)))))


class Error:
    """The fraction that is wrong."""

    higher_is_better = False

    def __init__(self):
        self.reset()

    def update(self, preds, target):
        self.wrong, self.seen = self.wrong + int((preds.argmax(1) != target).sum()), self.seen + len(target)

    def compute(self):
        return torch.tensor(self.wrong / self.seen)

    def reset(self):
        self.wrong = self.seen = 0


def loss(output, target):
    """Ends the process at a step, as a kill would, if the environment says so."""
    global steps
    steps += torch.is_grad_enabled()
    if steps == int(os.environ.get("DIE_AT", -1)):
        os._exit(77)
    return cross_entropy(output, target)


steps = 0


def points(batch_size, seed, device, workers=0):
    train, test = Points(64, 0), Points(30, 1)
    return tasks.FromLoaders(
        tasks.seeded_loader(train, batch_size, seed, num_workers=workers),
        tasks.seeded_loader(test, 16, seed, shuffle=False, drop_last=False),
        loss=loss, metrics={"error": Error()}, target="label", device=device, seed=seed,
    )
'''
RECIPE = {
    "model": "points:Net",
    "task": "points:points",
    "plan": {"set": "filters", "keep": {"a.weight": 6}},
    "solver": {"method": "slr", "cadence": 2},
    "training": {"epochs": 3, "batch_size": 8, "threads": 1},
    "retrain": {"epochs": 1},
    "checkpoint": {"steps": 3},
}


@pytest.mark.slow
def test_a_killed_run_resumes_bit_for_bit_and_is_made_smaller(tmp_path, monkeypatch):
    (tmp_path / "points.py").write_text(MODULE)
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(RECIPE))
    whole = process(["prune", "own.yaml", "--out", "whole"], tmp_path)
    assert whole.returncode == 0, whole.stderr
    assert "error" in whole.stdout
    epochs = [line for line in whole.stderr.splitlines() if line.startswith("prune ")]
    assert len(epochs) == 3
    assert all(re.search(r", error 0\.?\d*, if cut now 0\.?\d*, .* s$", line) for line in epochs)

    monkeypatch.setenv("DIE_AT", "14")
    killed = process(["prune", "own.yaml", "--out", "killed"], tmp_path)
    assert killed.returncode == 77, killed.stderr
    monkeypatch.delenv("DIE_AT")
    resumed = process(["prune", "own.yaml", "--out", "killed", "--resume"], tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    weights = [load_file(tmp_path / run / "weights.safetensors") for run in ("whole", "killed")]
    assert {k: v.numpy().tobytes() for k, v in weights[0].items()} == {
        k: v.numpy().tobytes() for k, v in weights[1].items()
    }

    small = process(["compact", "whole", "--purify", "--guard", "0.2", "--json"], tmp_path)
    assert small.returncode == 0, small.stderr
    said = json.loads(small.stdout)
    assert said["proof"]["holds"]
    assert said["proof"]["real_batches"] == 2
    assert said["shapes"]["a.weight"]["after"][0] <= 6
    assert set(said["metrics"]) == {"error", "loss"}
    assert said["purification"]["metric"] == "error"

    exported = process(["export", "whole"], tmp_path)
    assert exported.returncode == 2
    assert "export to ONNX takes models of one input tensor, and this one takes the keyword" in (
        exported.stderr
    )


@pytest.mark.slow
@pytest.mark.timeout(600)  # a busy machine takes its time
def test_a_goal_that_should_be_low_is_compared_in_its_unit(tmp_path):
    (tmp_path / "points.py").write_text(MODULE)
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(RECIPE))
    done = process(["compare", "own.yaml", "--methods", "slr,oneshot", "--out", "field"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "error, lower is better, one seed" in done.stdout
    assert re.search(r"prune 1/3: loss [\d.]+, error 0\.?\d*, if cut now", done.stderr)
    written = json.loads((tmp_path / "field" / "compare.json").read_text())
    assert written["metric"] == "error"
    assert written["goal"] == {"name": "error", "unit": "", "higher_is_better": False}
    page = (tmp_path / "field" / "report.html").read_text()
    assert "Bold: the lowest mean of its column. The figure is error; lower is better." in page
    assert ">If cut now, error<" in page


def test_a_goal_that_should_be_low_guards_purification_from_above():
    """The nearly silent filter alone is right: taking it out would raise the error from 0 to 1/2."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 1), nn.ReLU(), nn.Conv2d(8, 2, 1), nn.Flatten())
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight.zero_()
            layer.bias.zero_()
        model[0].weight[1:] = 1.0
        model[0].weight[0] = 1e-3
        model[2].weight[0, 0] = 1.0
        model[2].bias[1] = 5e-4  # class 0 if the pixel is 1, else class 1
    pixels = torch.tensor([0.0, 1.0]).repeat(8).view(16, 1, 1, 1)
    data = TensorDataset(pixels, (pixels.view(-1) == 0).long())
    task = FromLoaders(
        DataLoader(data, 4), DataLoader(data, 4), loss=nn.functional.cross_entropy,
        goal=Goal(name="loss", unit="", higher_is_better=False),
    )  # fmt: skip
    before = task.guard()(model)
    found = purified(SimpleNamespace(task=task), model, 1e-6)
    assert task.guard()(found.found.model) <= before + 1e-6
    assert found.test[0] == before
    assert f"{before:.4g} before" in found.remarks()[0]


def test_a_task_that_is_none_is_refused_in_one_line(espalier, place, recipe):
    (place / "odd_task.py").write_text("def make(seed):\n    return seed\n")
    path = recipe(data=None, task="odd_task:make")
    answer = espalier("prune", path, "--out", "run")
    assert answer.status == 2
    assert "odd_task:make returned a int without goal, steps_per_epoch" in answer.err
    assert not (place / "run").exists()
