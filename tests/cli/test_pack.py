"""``espalier pack`` and ``unpack``: small files, exact figures, the same weights."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from espalier import models, packing
from espalier.artifact import save
from espalier.compaction import compact


@pytest.mark.slow
def test_a_run_is_packed_accounted_for_and_comes_back(espalier, recipe, place):
    assert espalier("prune", recipe(), "--out", "run").status == 0
    weights = load_file(place / "run/weights.safetensors")

    answer = espalier("pack", "run", "--json")
    assert answer.status == 0, answer.err
    said = json.loads(answer.out)
    assert said["file"] == "run/model.packed"
    assert said["bytes"] == (place / "run/model.packed").stat().st_size
    spent = sum(
        sum(row[part] for row in said["tensors"].values())
        for part in ("index_bits", "data_bits", "codebook_bits")
    )
    assert spent + said["header_bits"] + said["filling_bits"] == 8 * said["bytes"]
    assert said["parameters"] == sum(tensor.numel() for tensor in weights.values())
    assert said["metrics"] == json.loads((place / "run/result.json").read_text())["retrained"]

    answer = espalier("pack", "run", "--out", "small.packed")
    assert answer.status == 0, answer.err
    for words in ("fc1.weight", "round trip: 6 tensors", "accuracy of the unpacked model",
                  "data alone", "espalier.unpack('small.packed')"):  # fmt: skip
        assert words in answer.out

    answer = espalier("unpack", "small.packed", "--out", "back.safetensors")
    assert answer.status == 0, answer.err
    assert packing.differing(weights, load_file(place / "back.safetensors")) == []


def test_an_artefact_is_packed_without_its_run(espalier, place):
    model = models.build("lenet300")
    with torch.no_grad():
        model.fc1.weight[model.fc1.weight.abs() < 0.03] = 0
    save("net.espalier", model)
    answer = espalier("pack", "net.espalier")
    assert answer.status == 0, answer.err
    assert packing.differing(model.state_dict(), packing.unpack("net.packed")) == []
    assert espalier("unpack", "net.packed", "--json").status == 0
    assert packing.differing(model.state_dict(), load_file("net.safetensors")) == []


def test_a_compact_artefact_is_set_against_the_model_before(espalier, place):
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        model[0].weight[2:] = 0
        model[0].bias[2:] = 0
    small = compact(model, torch.zeros(1, 4))
    save("net.espalier", small)
    answer = espalier("pack", "net.espalier")
    assert answer.status == 0, answer.err
    assert "than the 67 parameters there were before compaction" in answer.out
    assert packing.differing(small.model.state_dict(), packing.unpack("net.packed")) == []


def test_what_cannot_be_read_is_refused(espalier, place):
    (place / "empty").mkdir()
    (place / "text.espalier").write_text("hello")
    save_file({"w": torch.zeros(2)}, place / "plain.safetensors")
    for subject, status, words in (
        ("empty", 2, "not a run"),
        ("nowhere", 1, "cannot be read"),
        ("text.espalier", 1, "not a safetensors file"),
        ("plain.safetensors", 1, "not an artefact"),
    ):
        answer = espalier("pack", subject)
        assert answer.status == status
        assert words in answer.err
    answer = espalier("unpack", "text.espalier")
    assert answer.status == 1
    assert "not a packed model" in answer.err
    packing.pack("zeros.packed", {"w": torch.zeros(1000)})
    answer = espalier("unpack", "zeros.packed", "--limit", "100")
    assert answer.status == 1
    assert "4,000 bytes" in answer.err


@pytest.fixture(autouse=True)
def _there(place):
    """Every file lies in an empty folder."""
