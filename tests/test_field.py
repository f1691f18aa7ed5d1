"""The level field: equal epochs, equal trials, held-out choices, seeds in pairs."""

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import field as level  # noqa: E402
import field_pages as pages  # noqa: E402

from espalier.recipe import validate  # noqa: E402

FIELDS = sorted((BENCHMARKS / "fields").glob("*.yaml"))

SMALL = {
    "recipe": {
        "model": "lenet5",
        "data": {"name": "digits", "limit_train": 100, "limit_test": 40},
        "plan": {"density": 0.05},
        "training": {"batch_size": 25, "threads": 1, "epochs": 1, "lr": 2e-3},
        "retrain": {"epochs": 1},
    },
    "start": {"epochs": 1},
    "validation": 0.2,
    "epochs": 2,
    "trials": 3,
    "seeds": [1, 2],
    "methods": {
        "gradual": {
            "recipe": {"solver": {"method": "gradual", "cadence": 1}},
            "tune": {"training.lr": {"low": 1e-3, "high": 4e-3, "log": True}},
        },
        "one, shot": {
            "recipe": {
                "solver": "oneshot",
                "training": {"epochs": 0},
                "retrain": {"epochs": 1, "sam": 0.05},
            }
        },
    },
}


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A field of seconds, with a result file of its own."""
    monkeypatch.setattr(level, "RESULTS", tmp_path / "field.jsonl")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    before = torch.get_num_threads()
    yield tmp_path / "small.yaml"
    torch.set_num_threads(before)


@pytest.mark.parametrize("path", FIELDS, ids=[path.stem for path in FIELDS])
def test_every_method_of_a_field_takes_its_epochs_and_tunes_settings_that_it_has(path, monkeypatch):
    monkeypatch.setenv("ESPALIER_DATA", "/nowhere")
    field = level.read(path)
    assert len(field["seeds"]) >= 3
    for method, said in field["methods"].items():
        content = level.content_of(field, method, {}, trial=False, seed=1)
        recipe = validate(content)
        assert level.cost(recipe) == said.get("epochs", field["epochs"]), method
        assert level.content_of(field, method, {}, trial=True, seed=0)["data"]["validation"]
        for key, domain in said.get("tune", {}).items():
            drawn = domain[0] if isinstance(domain, list) else domain["low"]
            tuned = level.content_of(field, method, {key: drawn}, trial=True, seed=0)
            assert pages._at(validate(tuned).settings(), key) == pages._at({"a": drawn}, "a"), key


def test_a_sharpness_aware_epoch_counts_two():
    content = {**SMALL["recipe"], "training": {"epochs": 3, "sam": 0.1}, "solver": "slr"}
    assert level.cost(validate({**content, "retrain": {"epochs": 2}})) == 3 * 2 + 2 * 2
    assert level.cost(validate({**content, "retrain": {"epochs": 2, "sam": 0}})) == 3 * 2 + 2


def test_more_epochs_than_the_field_has_are_refused(small, tmp_path):
    field = level.read(small)
    field["methods"]["gradual"]["recipe"]["retrain"] = {"epochs": 2}
    content = level.content_of(field, "gradual", {}, trial=False, seed=1)
    with pytest.raises(SystemExit, match="gradual takes 3 epochs; the field has 2"):
        level.ended(field, "gradual", "final", 1, content, tmp_path)


def test_trials_choose_on_held_out_images_and_seeds_are_run_once_on_test_images(
    small, tmp_path, monkeypatch
):
    monkeypatch.setattr(level, "show_progress", _Silent)
    level._all(small, "final", ["gradual", "one, shot"], [1, 2], None, tmp_path / "runs")
    rows = level.rows("small")
    trials = [r for r in rows if r["kind"] == "trial" and r["method"] == "gradual"]
    finals = [r for r in rows if r["kind"] == "final"]
    assert [r["number"] for r in trials] == [0, 1, 2]
    assert {r["split"] for r in trials} == {"validation"}
    assert {r["split"] for r in finals} == {"test"}
    assert trials[0]["settings"]["training"]["lr"] == 2e-3  # the first as written
    best = max(trials, key=lambda r: r["delivered"])
    own = [r for r in finals if r["method"] == "gradual"]
    assert {r["settings"]["training"]["lr"] for r in own} == {best["settings"]["training"]["lr"]}
    assert own[0]["dense"] == next(
        r["dense"] for r in finals if r["method"] == "one, shot" and r["number"] == 1
    )  # one start for all methods of a seed
    assert own[0]["nonzero"] == own[0]["layers"]["conv1.weight"] + sum(
        own[0]["layers"][n] for n in ("conv2.weight", "fc1.weight", "fc2.weight")
    )
    assert own[0]["gradients"] == own[0]["steps"] == 8
    sharp = next(r for r in finals if r["method"] == "one, shot")
    assert (sharp["steps"], sharp["gradients"]) == (4, 8)

    monkeypatch.setattr(level, "run", None)  # whatever is run again now, fails
    level._all(small, "final", ["gradual", "one, shot"], [1, 2], None, tmp_path / "runs")
    assert level.rows("small") == rows


def test_differences_are_taken_seed_by_seed_with_students_interval(monkeypatch):
    made = {
        "a": {1: 0.990, 2: 0.991, 3: 0.989, 4: 0.5},
        "b": {1: 0.988, 2: 0.990, 3: 0.986},
        "c": {1: 0.991, 2: 0.985, 3: 0.992},
    }
    found = {
        m: [{"number": n, "delivered": y, "hard_pruned": y} for n, y in own.items()]
        for m, own in made.items()
    }
    monkeypatch.setattr(pages, "finals", lambda name: found)
    first, second = pages.paired_table("any").splitlines()[2:]
    # 0.2, 0.1, 0.3 points: mean 0.2, s = 0.1, t = 4.303, √3; the seed that b has not is left out
    assert first == "| a − b | +0.20 ± 0.25 | +0.20 ± 0.25 | 3 | not told apart |"
    assert second.endswith("| 3 | not told apart |")
    found["b"] = [{**r, "delivered": r["delivered"] - 0.01} for r in found["b"]]
    assert pages.paired_table("any").splitlines()[2].endswith("| +1.20 ± 0.25 | 3 | ahead |")
    found["b"] = found["b"][:1]
    assert pages.paired_table("any").splitlines()[2].endswith("| 1 | one seed: nothing |")


def test_the_front_is_what_no_other_run_beats():
    assert pages.front([(3, 0.9), (1, 0.7), (2, 0.7), (2, 0.8), (4, 0.85), (1, 0.6)]) == [
        (1, 0.7), (2, 0.8), (3, 0.9),
    ]  # fmt: skip


def test_the_result_file_says_of_every_run_what_decided_it_and_where_it_was_made():
    for line in level.RESULTS.read_text().splitlines() if level.RESULTS.exists() else ():
        row = json.loads(line)
        assert row["split"] == {"trial": "validation", "final": "test"}[row["kind"]]
        assert bool(row["settings"]["data"]["validation"]) == (row["kind"] == "trial")
        assert row["versions"]["torch"]
        assert row["hardware"]["cpu"]


class _Silent:
    def __init__(self, goal=None):
        pass

    def __enter__(self):
        return lambda event: None

    def __exit__(self, *_):
        pass
