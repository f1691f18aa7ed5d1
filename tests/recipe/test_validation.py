"""`validation:` in a recipe: no choice of the run sees test data, and all that is written says so."""

import sys

import pytest
import torch

from espalier.cli._prune import summary
from espalier.compare import contestants, run_comparison
from espalier.errors import RecipeError, RequestError
from espalier.recipe import override, validate
from espalier.recipe._building import make_task
from espalier.recipe._running import Job, run
from espalier.report._groups import compare
from espalier.report._runs import read_run
from espalier.report._tables import _split_said
from espalier.runs import read_result

MODULE = """
import torch
from espalier.data import ImageSet, Split

SEEN = []

def images(path=None):
    draw = torch.Generator().manual_seed(0)
    def made(count, level):
        x = torch.randint(level, level + 50, (count, 1, 4, 4), generator=draw, dtype=torch.uint8)
        return ImageSet(images=x, labels=torch.arange(count) % 3, classes=("a", "b", "c"))
    return Split(train=made(60, 0), test=made(24, 200))

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = torch.nn.Linear(16, 12), torch.nn.Linear(12, 3)
    def forward(self, x):
        SEEN.append(float(x.max()))
        return self.two(self.one(x.flatten(1)).relu())
"""

CONTENT = {
    "model": "held_out:Net",
    "data": {"name": "held_out:images", "validation": 0.2},
    "plan": {"density": 0.3},
    "solver": {"method": "slr", "cadence": 2},
    "pretrain": {"epochs": 1},
    "training": {"epochs": 2, "batch_size": 8},
    "retrain": {"epochs": 1},
    "quantise": {"search": {}, "epochs": 1},
}


@pytest.fixture
def seen(tmp_path, monkeypatch):
    """What the network was shown: test images alone are brighter than 0.7."""
    (tmp_path / "held_out.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "held_out", raising=False)
    import held_out

    yield held_out.SEEN
    monkeypatch.delitem(sys.modules, "held_out", raising=False)


def done(content, folder, **options):
    return run(Job.prepare(validate(content), content), folder, **options).result


def test_a_run_on_the_validation_part_shows_the_network_no_test_image(seen, tmp_path):
    assert done(CONTENT, tmp_path / "run").split == "validation"
    assert len(seen) > 20
    assert max(seen) < 0.7
    content = override(CONTENT, "data.validation=null")
    assert done(content, tmp_path / "other").split == "test"
    assert max(seen) > 0.7


def test_everything_written_says_of_which_split_its_figures_are(seen, tmp_path):
    result = done(CONTENT, tmp_path / "run")
    assert read_result(tmp_path / "run" / "result.json").split == "validation"
    goal = make_task(validate(CONTENT)).goal
    assert "held-out training data" in summary(result, goal)
    held = read_run(tmp_path / "run")
    assert held.split == "validation"
    assert _split_said(compare([held])).startswith(" All figures are on held-out training data")
    done(override(CONTENT, "data.validation=null"), tmp_path / "test")
    both = compare([held, read_run(tmp_path / "test")])
    assert _split_said(both).startswith(" The figures of SLR · ")
    assert _split_said(compare([read_run(tmp_path / "test")])) == ""


def test_a_run_is_not_gone_on_with_on_another_part(seen, tmp_path):
    done(CONTENT, tmp_path / "run")
    for other in ("0.3", "null"):
        with pytest.raises(
            RequestError, match=r"holds another run: data\.test\.content is not the same"
        ):
            done(override(CONTENT, f"data.validation={other}"), tmp_path / "run", resume=True)


def test_a_comparison_is_judged_on_one_split_and_says_which(seen, tmp_path):
    content = {**CONTENT, "pretrain": None, "retrain": None, "quantise": None}
    content = {k: v for k, v in content.items() if v is not None}
    held = contestants("held", validate(content), content, methods=["oneshot"])
    other = override(content, "data.validation=null")
    tested = contestants("tested", validate(other), other, methods=["oneshot"])
    found = run_comparison(held, tmp_path / "held", measure_overhead=False)
    assert found.to_dict()["split"] == "validation"
    assert ", on held-out training data, one seed" in found.table().title
    with pytest.raises(RequestError, match="judged on different data"):
        run_comparison([*held, *tested], tmp_path / "mixed", measure_overhead=False)


@pytest.mark.parametrize("value", ["0", "0.0", "1.0", "-3", "true", "many"])
def test_a_part_that_is_none_is_refused_at_its_place(value):
    with pytest.raises(
        RecipeError, match=r"data\.validation: \S+: give a count .*a fraction in \(0, 1\)"
    ):
        validate(override(CONTENT, f"data.validation={value}"))


def test_a_task_of_ones_own_has_to_be_able_to(seen, tmp_path):
    (tmp_path / "own_held.py").write_text(
        "import held_out\nfrom espalier.tasks import Classification\n"
        "def made(seed, batch_size):\n"
        "    split = held_out.images()\n"
        "    return Classification(split.train, split.test, batch_size, seed)\n"
        "class Without:\n"
        "    def __getattr__(self, name):\n"
        "        if name == 'validating': raise AttributeError(name)\n"
        "    goal = steps_per_epoch = example_input = model_arguments = batches = loss = None\n"
        "    evaluate = inputs = guard = None\n"
        "def without(): return Without()\n"
    )
    content = {k: v for k, v in CONTENT.items() if k != "data"}
    own = validate({**content, "task": {"name": "own_held:made", "validation": 12}})
    assert make_task(own).judged_on == "validation"
    assert torch.equal(make_task(own).test.labels.bincount(), torch.tensor([4, 4, 4]))
    with pytest.raises(RequestError, match=r"Without has no validating\(part\)"):
        make_task(validate({**content, "task": {"name": "own_held:without", "validation": 12}}))
