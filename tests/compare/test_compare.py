"""`espalier compare`, end to end on a job of seconds."""

import json

import pytest
import torch
import yaml

from espalier.cli import main

CONTENT = {
    "model": "lenet300",
    "data": {"name": "digits", "limit_train": 160, "limit_test": 50},
    "plan": {"compression": 10},
    "pretrain": {"epochs": 1},
    "solver": {"method": "slr", "cadence": 2},
    "training": {"epochs": 1, "batch_size": 32},
}


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # threads only wait for one another on a network this small
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(CONTENT))
    yield path
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.timeout(900)  # a busy machine takes its time
def test_methods_by_seeds_with_table_json_and_page(recipe, tmp_path, capfd):
    arguments = [
        "compare",
        str(recipe),
        "--methods",
        "dense,admm,slr",
        "--seeds",
        "2",
        "--out",
        "field",
    ]
    assert main(arguments) == 0
    shown = capfd.readouterr()
    out = tmp_path / "field"
    assert "slr: cadence 2" in shown.out
    assert "mean over 2 seeds" in shown.out
    assert "accuracy in %, mean over 2 seeds" in shown.out
    assert shown.err.count("pretrain 1/1") == 2  # once a seed, for all methods

    names = [f"{method}-seed{k}" for method in ("dense", "admm", "slr") for k in (0, 1)]
    assert all((out / name / "result.json").is_file() for name in names)
    begun = [(out / name / "before.safetensors").read_bytes() for name in names]
    assert begun[0] == begun[2] == begun[4]  # the same weights, the seeds apart
    assert begun[0] != begun[1]

    written = json.loads((out / "compare.json").read_text())
    assert written["metric"] == "accuracy"
    assert written["goal"] == {"name": "accuracy", "unit": "fraction", "higher_is_better": True}
    rows = {row["label"]: row for row in written["rows"]}
    assert list(rows) == ["dense", "admm", "slr"]
    for row in rows.values():
        assert row["seeds"] == [0, 1]
        hard = row["metrics"]["hard_pruned"]
        assert hard["mean"] == pytest.approx(sum(hard["values"]) / 2)
        assert hard["half_width"] is not None
    assert rows["dense"]["compression"] == 1.0
    assert rows["slr"]["compression"] == 10.0
    assert rows["slr"]["overhead"] > 0.5
    assert rows["dense"]["overhead"] is None
    assert rows["slr"]["settings"]["cadence"] == 2
    assert (out / "report.html").stat().st_size > 10_000

    # A second call trains nothing and says the same.
    assert main(arguments) == 0
    assert "epochs," not in capfd.readouterr().err
    assert json.loads((out / "compare.json").read_text()) == written
