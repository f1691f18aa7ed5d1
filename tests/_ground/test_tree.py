"""Trees of tensors and scalars come back as they were, or not at all."""

import errno
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from espalier._ground import tree as tree_module
from espalier._ground.tree import load_tree, save_tree
from espalier.errors import CheckpointError, RequestError, RunFolderError


def same(a, b):
    """Equal structure, and equal tensors down to their bytes."""
    if isinstance(a, torch.Tensor):
        return (
            a.dtype == b.dtype
            and a.shape == b.shape
            and torch.equal(
                a.contiguous().reshape(-1).view(torch.uint8),
                b.contiguous().reshape(-1).view(torch.uint8),
            )
        )
    if isinstance(a, dict):
        return list(a) == list(b) and all(
            type(k) is type(m) and same(a[k], b[m]) for k, m in zip(a, b, strict=True)
        )
    if isinstance(a, list | tuple):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    return type(a) is type(b) and a == b


def test_scalars_keys_and_nesting_survive(tmp_path):
    tree = {
        "none": None, "true": True, "int": -(2**70), "text": "é\n/", "tiny": 5e-324,
        0: {"a/b": [1, 2.5, (3, [])], "a": {}}, 1: "int key", "1": "str key",
        "odd": [math.inf, -math.inf, math.nan, -0.0],
    }  # fmt: skip
    save_tree(tmp_path / "t", tree)
    assert same(tree, load_tree(tmp_path / "t"))
    assert math.copysign(1, load_tree(tmp_path / "t")["odd"][3]) == -1


@pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8,
     torch.bool],
)  # fmt: skip
def test_tensors_of_every_dtype_survive_bit_for_bit(tmp_path, dtype):
    tensors = [torch.tensor(1), torch.zeros(0, 3), torch.arange(-6, 6).reshape(2, 6) * 0.7]
    tree = [t.to(dtype) for t in tensors]
    save_tree(tmp_path / "t", tree)
    assert same(tree, load_tree(tmp_path / "t"))


def test_nan_payloads_and_signed_zeros_survive(tmp_path):
    tree = torch.tensor([0x7FC00123, -0x80000000, 0x7F800000], dtype=torch.int64)
    tree = tree.to(torch.int32).view(torch.float32)
    save_tree(tmp_path / "t", tree)
    assert same(tree, load_tree(tmp_path / "t"))


def test_views_and_shared_storage_are_written_as_tensors_of_their_own(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    parameter = torch.nn.Parameter(base)
    tree = {"t": base.T, "row": base[1], "whole": base, "again": base, "p": parameter}
    save_tree(tmp_path / "t", tree)
    loaded = load_tree(tmp_path / "t")
    assert same({k: v.detach() for k, v in tree.items()}, loaded)
    assert loaded["whole"].data_ptr() != loaded["again"].data_ptr()
    assert not loaded["p"].requires_grad


def test_names_that_would_collide_are_kept_apart(tmp_path):
    tree = {
        "a/b": torch.tensor(1), "a": {"b": torch.tensor(2)}, 1: torch.tensor(3),
        "1": torch.tensor(4), "__metadata__": torch.tensor(5), "": torch.tensor(6),
    }  # fmt: skip
    save_tree(tmp_path / "t", tree)
    assert same(tree, load_tree(tmp_path / "t"))


def test_state_of_adam_and_of_a_scheduler_survives(tmp_path):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters(), amsgrad=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 7)
    for _ in range(3):
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        scheduler.step()
    tree = {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
    save_tree(tmp_path / "t", tree)
    loaded = load_tree(tmp_path / "t")
    assert same(tree, loaded)
    assert set(loaded["optimizer"]["state"]) == {0, 1}
    torch.optim.Adam(model.parameters()).load_state_dict(loaded["optimizer"])


@pytest.mark.parametrize("thing", [object(), {1.5: 2}, {(1, 2): 3}, [{1, 2}], 1j, b"bytes"])
def test_what_is_no_tree_is_refused_with_its_place_and_nothing_is_written(tmp_path, thing):
    with pytest.raises(RequestError, match="here"):
        save_tree(tmp_path / "t", {"here": thing})
    assert list(tmp_path.iterdir()) == []


def written(tmp_path) -> Path:
    path = tmp_path / "checkpoint.safetensors"
    save_tree(path, {"w": torch.arange(1000.0), "step": 3})
    return path


@pytest.mark.parametrize("size", [0, 7, 8, 50, 300, 1000, -1])
def test_a_truncated_file_is_refused(tmp_path, size):
    path = written(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:size])
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors: it is (cut short|not)"):
        load_tree(path)


def test_a_file_cut_in_its_tensors_is_called_cut_short(tmp_path):
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"cut short: \d+ bytes of weights where \d+"):
        load_tree(path)


@pytest.mark.parametrize("content", [b"PK\x03\x04 pickled" * 50, b"\x80\x02}q\x00.", b"\0" * 99])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"not a safetensors file|not a checkpoint"):
        load_tree(tmp_path / "x")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        load_tree(tmp_path / "x")


def test_somebody_elses_safetensors_is_refused(tmp_path):
    save_file({"w": torch.ones(2)}, tmp_path / "x")
    with pytest.raises(CheckpointError, match="not a checkpoint of Espalier's"):
        load_tree(tmp_path / "x")


def rewritten(path, **changes):
    """The same file with other metadata, as a forger or a later version would write it."""
    with safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {k: file.get_tensor(k) for k in file.keys()}
    save_file(tensors, path, {**metadata, **changes})


def test_another_version_is_refused_and_named(tmp_path):
    path = written(tmp_path)
    rewritten(path, version="2")
    with pytest.raises(CheckpointError, match="version '2' and this Espalier reads '1'"):
        load_tree(path)


def test_a_flipped_bit_in_a_tensor_is_noticed(tmp_path):
    path = written(tmp_path)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="checksum"):
        load_tree(path)


def test_an_altered_structure_is_noticed(tmp_path):
    path = written(tmp_path)
    rewritten(path, structure=json.dumps({"dict": [["step", 4]]}))
    with pytest.raises(CheckpointError, match="checksum"):
        load_tree(path)


@pytest.mark.parametrize(
    "structure", ["", "[", '{"tensor": "v"}', '{"odd": 1}', '{"dict": 3}', "{}", '{"float": "x"}',
                  '{"list":[' * 3000 + "0" + "]}" * 3000]
)  # fmt: skip
def test_a_forged_structure_with_a_valid_checksum_is_refused(tmp_path, structure, monkeypatch):
    path = written(tmp_path)
    monkeypatch.setattr(tree_module, "_checksum", lambda *_: "forged")
    rewritten(path, structure=structure, sha256="forged")
    with pytest.raises(CheckpointError, match="structure cannot be read"):
        load_tree(path)


def test_keep_moves_the_former_file(tmp_path):
    for step in range(3):
        save_tree(tmp_path / "a", {"step": step}, keep=tmp_path / "b")
    assert load_tree(tmp_path / "a") == {"step": 2}
    assert load_tree(tmp_path / "b") == {"step": 1}
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("call", [(Path, "write_bytes"), (os, "fsync")])
def test_a_full_disk_leaves_the_old_file_and_no_temporary(tmp_path, monkeypatch, call):
    path = written(tmp_path)
    before = path.read_bytes()

    def full(*args):
        if "write_bytes" in call:
            args[0].touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*call, full)
    with pytest.raises(RunFolderError, match="no space left on the disk; free some and resume"):
        save_tree(path, {"w": torch.zeros(5000)}, keep=tmp_path / "previous")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == before


FULL = """
import resource, sys, torch
from espalier.errors import RunFolderError
from espalier._ground.tree import save_tree
save_tree(sys.argv[1], {"w": torch.zeros(10)})
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    save_tree(sys.argv[1], {"w": torch.zeros(100_000)})
except RunFolderError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_write_that_the_system_cuts_off_leaves_the_old_file(tmp_path):
    path = tmp_path / "a"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=True
    )
    assert "cannot be written" in done.stdout
    assert load_tree(path)["w"].shape == (10,)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(RunFolderError, match="cannot be written"):
        save_tree(tmp_path / "no" / "t", {})
