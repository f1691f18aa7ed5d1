"""``espalier compact``: what is removed is proved; where nothing can be removed, that is said."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from cli.job import process
from espalier import artifact, models
from espalier.measure import _latency as latency

FILTERS = {
    "model": "lenet5",
    "data": {"name": "digits", "limit_train": 160, "limit_test": 70},
    "plan": {
        "set": "filters",
        "keep": {"conv1.weight": 5, "conv2.weight": 12, "fc1.weight": 125},
    },
    "solver": {"method": "oneshot"},
    "training": {"epochs": 1, "batch_size": 32},
}


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder above ``run``, a run that has pruned filters of LeNet-5."""
    place = tmp_path_factory.mktemp("filters")
    (place / "tiny.yaml").write_text(yaml.safe_dump(FILTERS))
    done = process(["prune", "tiny.yaml", "--out", "run"], place)
    assert done.returncode == 0, done.stderr
    return place


@pytest.mark.slow
def test_filters_that_are_zero_are_removed_proved_and_saved(pruned):
    done = process(["compact", "run"], pruned)
    assert done.returncode == 0, done.stderr
    for said in ("conv2.weight", "50×20×5×5", "12×5×5×5", "proof: max |Δoutput|",
                 "and 2 real batches", "artefact: run/compact.espalier"):  # fmt: skip
        assert said in done.stdout
    assert "nothing was removed" not in done.stdout

    file = pruned / "run/compact.espalier"
    small = artifact.load(file, lambda: models.build("lenet5"))
    assert tuple(small.conv2.weight.shape) == (12, 5, 5, 5)
    kept = json.loads((pruned / "run/compact.json").read_text())
    assert kept["artefact_bytes"] == file.stat().st_size
    assert kept["macs"]["after"] < kept["macs"]["before"]
    assert kept["widths"]["conv2.weight"] == {"before": 50, "after": 12}
    assert kept["widths"]["fc2.weight"] == {"before": 10, "after": 10}
    assert kept["proof"]["holds"]
    said = artifact.inspect(file)
    assert said.proof.holds
    assert said.provenance["recipe"]["model"]["name"] == "lenet5"
    assert set(said.metrics) == {"accuracy", "loss"}
    assert said.plan is not None


@pytest.mark.slow
def test_json_and_widths_of_a_multiple(pruned, espalier, monkeypatch):
    monkeypatch.chdir(pruned)
    answer = espalier("compact", "run", "--multiple", "4", "--out", "four.espalier", "--json")
    assert answer.status == 0, answer.err
    said = json.loads(answer.out)
    assert said["proof"]["holds"]
    assert said["proof"]["real_batches"] == 2
    assert said["shapes"]["conv1.weight"] == {"before": [20, 1, 5, 5], "after": [8, 1, 5, 5]}
    assert [said["shapes"][name]["after"][0] for name in ("conv2.weight", "fc1.weight")] == [
        12,
        128,
    ]
    assert said["after"]["parameters"] < said["before"]["parameters"]
    assert said["artefact"] == "four.espalier"
    assert (pruned / "four.espalier").is_file()


def test_scattered_zeros_remove_nothing_and_the_answer_says_what_would(espalier, recipe, place):
    assert espalier("prune", recipe(pretrain=None, retrain=None, training__epochs=1,
                                    plan={"compression": 2}), "--out", "run").status == 0  # fmt: skip
    answer = espalier("compact", "run")
    assert answer.status == 0, answer.err
    assert "nothing was removed: no whole filter or channel is zero" in answer.out
    assert "plan.set=filters or plan.set=channels" in answer.out
    assert artifact.inspect(place / "run/compact.espalier").edits.slices == ()


def test_what_is_no_run_is_refused(espalier, place):
    (place / "empty").mkdir()
    for subject, words in (("empty", "not a run"), ("nowhere", "no such folder")):
        answer = espalier("compact", subject)
        assert answer.status == 2
        assert words in answer.err


@pytest.mark.slow
def test_an_artefact_in_a_folder_that_is_not_there_is_refused(pruned, espalier, monkeypatch):
    monkeypatch.chdir(pruned)
    answer = espalier("compact", "run", "--out", "none/at/all.espalier")
    assert answer.status == 1
    assert "cannot be written" in answer.err
    assert answer.out == ""


@pytest.mark.slow
def test_the_artefact_is_exported_and_the_runtime_computes_the_same(pruned, espalier, monkeypatch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.chdir(pruned)
    assert espalier("compact", "run", "--out", "elsewhere.espalier").status == 0
    answer = espalier("export", "elsewhere.espalier")
    assert answer.status == 2  # the folder it lies in is no run
    assert "not a run" in answer.err
    answer = espalier("export", "elsewhere.espalier", "--run", "run", "--json")
    assert answer.status == 0, answer.err
    said = json.loads(answer.out)
    assert (said["model"], said["file"], said["batch"]) == ("compact", "elsewhere.onnx", None)
    assert said["difference"] <= 1e-3 * said["scale"]
    assert (pruned / "elsewhere.onnx").stat().st_size == said["bytes"]


@pytest.fixture
def briefly(monkeypatch):
    """Two rounds on one thread: what is measured matters here, not how well."""
    short = {"rounds": 2, "turn": 0.0, "threads": (1,)}
    monkeypatch.setattr(
        latency.latency, "__kwdefaults__", {**latency.latency.__kwdefaults__, **short}
    )


@pytest.mark.slow
@pytest.mark.usefixtures("briefly")
def test_latency_sets_dense_masked_and_compact_side_by_side(pruned, espalier, monkeypatch):
    monkeypatch.chdir(pruned)
    answer = espalier("measure", "run", "--latency", "--json")
    assert answer.status == 0, answer.err
    said = json.loads(answer.out)["latency"]
    assert said == json.loads((pruned / "run/latency.json").read_text())
    timed = [(row["runtime"], row["batch"], row["model"]) for row in said["rows"]]
    packages = {"ONNX Runtime": "onnxruntime", "OpenVINO": "openvino"}
    there = ["eager", *(name for name, package in packages.items() if find_spec(package))]
    names = ("dense", "masked", "compact")
    assert timed == [(runtime, b, name) for b in (1, 32) for runtime in there for name in names]
    assert said["macs"]["dense"] == said["macs"]["masked"] > said["macs"]["compact"]
    assert "fewer multiply-accumulates than dense" in said["roofline"][1]
    missing = [name for name in packages if name not in there]
    assert [
        name for name in packages if f"{name}: not installed" in str(said["remarks"])
    ] == missing


@pytest.mark.slow
@pytest.mark.usefixtures("briefly")
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler (g++)")
def test_latency_under_torch_compile(pruned, espalier, monkeypatch):
    short = {**latency.latency.__kwdefaults__, "batches": (2,)}  # every setting compiles anew
    monkeypatch.setattr(latency.latency, "__kwdefaults__", short)
    monkeypatch.chdir(pruned)
    answer = espalier("measure", "run", "--latency", "--compile")
    assert answer.status == 0, answer.err
    rows = json.loads((pruned / "run/latency.json").read_text())["rows"]
    compiled = [row for row in rows if row["runtime"] == "torch.compile"]
    assert [row["model"] for row in compiled] == ["dense", "masked", "compact"]
    assert all(row["seconds"]["median"] > 0 for row in compiled)
    assert "torch.compile" in answer.out


@pytest.mark.slow
def test_without_a_compiler_torch_compile_is_refused(pruned, espalier, monkeypatch):
    monkeypatch.chdir(pruned)
    monkeypatch.setenv("CXX", "no-such-compiler")
    answer = espalier("measure", "run", "--latency", "--compile")
    assert answer.status == 2
    assert "there is no no-such-compiler" in answer.err


def test_latency_of_no_run_is_refused(espalier, recipe):
    assert "give its folder" in espalier("measure", recipe(), "--latency").err
    assert "give --latency too" in espalier("measure", recipe(), "--compile").err


@pytest.mark.slow
def test_purification_is_guarded_by_training_data_and_recorded(pruned, espalier, monkeypatch):
    monkeypatch.chdir(pruned)
    asked = ("compact", "run", "--purify", "--guard", "0.05", "--out", "pure.espalier")
    answer = espalier(*asked)
    assert answer.status == 0, answer.err
    assert "guard: accuracy on up to 10,000 training samples" in answer.out
    assert "test set: accuracy" in answer.out
    said = json.loads(espalier(*asked, "--json").out)["purification"]
    assert said["score"]["before"] - said["score"]["after"] <= 0.05
    before, after = (said["counts"][when]["conv_only"] for when in ("before", "after"))
    assert before["total"] == after["total"] == 25_500
    assert after["nonzero"] <= before["nonzero"]
    assert artifact.inspect(pruned / "pure.espalier").provenance["purification"] == said
    assert espalier("compact", "run", "--purify", "--guard", "-1").status == 2
