"""What the documents show runs: recipes are recipes, stages are stages, and Python does what the page says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

import espalier as esp
from espalier import data, models, tasks
from espalier.planning import Plan
from espalier.recipe import validate
from espalier.recipe._yaml import parse
from espalier.runs import RunRecord, read_run

DOCS = Path(__file__).parents[1] / "docs"


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def recipes() -> list[dict]:
    """The YAML of the page that is a recipe, and not a part of one."""
    return [parse(b, "recipes.md") for b in blocks("recipes.md", "yaml") if b.startswith("title:")]


def stages_block(text: str) -> dict:
    (found,) = [parse(b, "recipes.md") for b in blocks("recipes.md", "yaml") if text in b]
    return found


def weights(path: Path) -> dict[str, torch.Tensor]:
    model = models.build("lenet5")
    models.load_weights(model, path)
    return {name: p.detach() for name, p in model.named_parameters()}


def pruned(content: dict, place: Path) -> RunRecord:
    """What `espalier prune` makes of a recipe, in a process of its own as a reader would run it."""
    (place / "page.yaml").write_text(yaml.safe_dump(content))
    command = [sys.executable, "-m", "espalier.cli", "prune", "page.yaml", "--out", "run"]
    subprocess.run(command, cwd=place, check=True, capture_output=True, timeout=200)
    return read_run(place / "run")


def test_the_whole_recipes_of_the_page_are_valid():
    usual, by_hand = recipes()
    made = validate(usual)
    assert made.solver.build().opening == esp.solvers.Cubic(0.5)
    assert made.quantise is not None
    assert made.quantise.freeze is not None
    assert [stage.name for stage in validate(by_hand).stages] == ["dense", "cut", "ticket"]


def test_the_methods_that_the_page_names_are_built():
    (block,) = [b for b in blocks("recipes.md", "yaml") if "lottery_ticket, rounds" in b]
    lines = [parse(line, "recipes.md") for line in block.splitlines()]
    names = [line["solver"]["method"] for line in lines]
    assert names == ["l0", "autoprune", "rda", "rigl", "lottery_ticket"]
    for line in lines:
        validate({**recipes()[1], "stages": None, "training": {"epochs": 1}, **line}).solver.build()


def test_the_stages_of_the_page_are_a_lottery_ticket(tmp_path):
    pytest.importorskip("sklearn")
    content = recipes()[1]
    done = pruned(content, tmp_path)
    cut, ticket = done.result.stages[1:]
    early = weights(tmp_path / "run/dense-step10.safetensors")
    left = weights(tmp_path / "run/weights.safetensors")
    names = Plan.load(tmp_path / "run/plan.yaml").names
    density = sum(int((left[n] != 0).sum()) for n in names) / sum(left[n].numel() for n in names)
    assert density == pytest.approx(0.1, rel=0.01)
    assert (cut.figure, ticket.figure) == ("hard_pruned", "retrained")
    assert cut.nonzero == ticket.nonzero
    # Adam moves a weight by about the learning rate per step: 30 steps of 1e-3 from where it was rewound to.
    # Without rewinding the two stages before count too, with 20 and 20 steps of 2e-3: 0.08 in all.
    assert max(float((left[n] - early[n])[left[n] != 0].abs().max()) for n in names) < 0.05


def test_the_stages_that_load_begin_with_the_weights_of_the_file(tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(3)
    dense = models.build("lenet5")
    save_file(dense.state_dict(), tmp_path / "dense.safetensors")
    content = {**recipes()[1], **stages_block("{load: dense.safetensors}")}
    pruned(content, tmp_path)
    before = weights(tmp_path / "run/before.safetensors")
    assert all(torch.equal(p, before[name]) for name, p in dense.named_parameters())


@pytest.fixture
def names(monkeypatch, tmp_path) -> dict:
    """What the pages take for granted: a model, a task, an optimiser."""
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    digits = data.load("digits")
    task = tasks.Classification(
        digits.train, digits.test, batch_size=32, seed=0, limit_train=160, limit_test=50
    )
    model = models.build("lenet5")
    batches = list(task.batches(0))
    return {
        "esp": esp, "models": models, "task": task, "model": model, "steps": len(batches),
        "images": batches[0][0], "batches": batches, "criterion": torch.nn.functional.cross_entropy,
        "optimizer": torch.optim.Adam(model.parameters(), lr=1e-3),
    }  # fmt: skip


def test_getting_started_runs_as_printed(names, capsys):
    for block in blocks("getting-started.md", "python"):
        exec(compile("import rich\n" + block, "getting-started.md", "exec"), names)
    assert names["method"].cadence == names["pruning"].method.cadence == 10
    assert names["pruning"].solver == esp.SLR()
    result = names["done"].result
    assert [stage.name for stage in result.stages] == ["pretrain", "prune", "retrain"]
    assert result.sentence in capsys.readouterr().out


def test_the_page_on_quantisation_runs_as_printed(names):
    for block in blocks("quantise.md", "python")[:2]:
        exec(compile(block, "quantise.md", "exec"), names)
    model, target = names["model"], names["target"]
    assert target.contains(dict(model.named_parameters()))
    assert len(model.fc1.weight.detach().abs().unique()) <= 2**2 // 2


def test_the_searches_of_the_page_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _, own, sweep = blocks("search.md", "python")
    exec(compile(own, "search.md", "exec"), {})
    assert capsys.readouterr().out == "Trial(candidate=0.75, score=-0.0025000000000000044)\n"
    pytest.importorskip("optuna")
    names: dict = {}
    exec(compile(sweep, "search.md", "exec"), names)
    assert len(names["trials"]) == 5


def test_the_allocations_of_the_recipes_page_are_plans():
    (block,) = [b for b in blocks("recipes.md", "yaml") if "allocation: {amc" in b]
    base = {"model": "lenet5", "data": "digits", "training": {"epochs": 1}}
    for line in block.splitlines():
        validate({**base, **parse(line, "recipes.md")})
    for page in ("method/amc.md", "method/sensitivity.md", "method/shadow-prices.md"):
        (block,) = blocks(page, "yaml")
        validate({**base, **parse(block, page)})
