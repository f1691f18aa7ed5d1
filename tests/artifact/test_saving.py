"""What is written is reproducible, and what cannot be read back is not written."""

import json
import subprocess
import sys

import pytest
import torch
from torch import nn

from artifact.nets import pruned
from espalier.artifact import save
from espalier.errors import RequestError, RunFolderError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.espalier"


def test_the_same_model_gives_the_same_bytes_in_every_process(path, tmp_path):
    program = (
        "import sys, torch; from torch import nn; from espalier.artifact import save\n"
        "torch.manual_seed(0); net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))\n"
        "save(sys.argv[1], net, metrics={'a': 2, 'b': 1}, provenance={'y': 2, 'z': 1})"
    )
    other = tmp_path / "other"
    subprocess.run([sys.executable, "-c", program, other], check=True, timeout=120)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    save(path, net, metrics={"a": 2, "b": 1}, provenance={"y": 2, "z": 1})
    assert path.read_bytes() == other.read_bytes()


class Extra(nn.Linear):
    def get_extra_state(self):
        return {"a": 1}


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (nn.LazyLinear(2), {}, "lazy"),
        (nn.Linear(2, 2, device="meta"), {}, "meta"),
        (Extra(2, 2), {}, "neither a parameter nor a buffer"),
        (nn.Linear(2, 2), {"metrics": {"loss": float("nan")}}, "JSON"),
        (nn.Linear(2, 2), {"metrics": {"loss": torch.ones(())}}, "JSON"),
        (nn.Linear(2, 2), {"provenance": {"a": {2: {3}}}}, "JSON"),
        (nn.Linear(2, 2, dtype=torch.complex128), {}, "safetensors cannot hold"),
        ({"weight": torch.ones(2)}, {}, "not a dict"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_an_artefact_cannot_hold_is_refused_before_anything_is_written(
    path, model, arguments, message
):
    with pytest.raises(RequestError, match=message):
        save(path, model, **arguments)
    assert list(path.parent.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(RunFolderError, match="cannot be written"):
        save(tmp_path / "no" / "net.espalier", nn.Linear(1, 1))


def test_a_failed_save_keeps_the_old_file(path):
    save(path, nn.Linear(2, 2))
    raw = path.read_bytes()
    with pytest.raises(RequestError):
        save(path, nn.Linear(2, 2), metrics={"loss": float("inf")})
    assert path.read_bytes() == raw


def test_the_header_is_aligned_and_json(path):
    save(path, pruned())
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    assert length % 8 == 0
    assert list(json.loads(raw[8 : 8 + length])["__metadata__"]) == ["espalier"]
