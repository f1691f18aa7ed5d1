"""Any file is opened in one way: a regular one, of a bounded size, or a refusal at once."""

import os
import socket

import pytest
from torch import nn

from espalier import artifact, models, packing
from espalier._ground.files import read_mapping
from espalier._ground.reading import opened, read_bytes
from espalier._ground.tree import load_tree
from espalier.data._cifar10 import read_batch
from espalier.data._folder import read_image
from espalier.data._mnist import read_idx
from espalier.errors import EspalierError
from espalier.planning import Plan
from espalier.recipe import load
from espalier.report._runs import _text
from espalier.runs import read_result

READERS = {
    "plan": Plan.load,
    "recipe": load,
    "artefact": lambda path: artifact.load(path, lambda: nn.Linear(1, 1)),
    "artefact's document": artifact.inspect,
    "packed": packing.unpack,
    "weights": lambda path: models.load_weights(nn.Linear(1, 1), path),
    "checkpoint": load_tree,
    "mapping": read_mapping,
    "result": read_result,
    "IDX": lambda path: read_idx(path, 3),
    "CIFAR": read_batch,
    "image": lambda path: read_image(path),
}


@pytest.fixture
def odd(tmp_path):
    """What is no regular file."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "zero").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
        yield tmp_path


@pytest.mark.parametrize(
    "kind", ["pipe", "folder", "zero", "socket", "absent", "a\0b", "x" * 5000, "\ud800"]
)
@pytest.mark.parametrize("reader", READERS)
def test_every_reader_refuses_what_is_no_regular_file_without_waiting_for_it(odd, reader, kind):
    with pytest.raises(EspalierError):
        READERS[reader](odd / kind)


def test_a_report_reads_no_pipe(odd):
    assert _text(odd / "pipe") == ""


def test_a_file_beyond_the_bound_is_not_read(tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # takes no space
    with pytest.raises(
        OSError, match=r"1,099,511,627,776 bytes or more, and at most 1,000 are read"
    ):
        read_bytes(path, 1000)
    for reader in ("plan", "recipe", "packed", "mapping", "IDX", "CIFAR"):
        with pytest.raises(EspalierError):
            READERS[reader](path)


def test_a_file_at_the_bound_is_read(tmp_path):
    (tmp_path / "f").write_bytes(bytes(1000))
    assert read_bytes(tmp_path / "f", 1000) == bytes(1000)
    with opened(tmp_path / "f") as file:
        assert file.read(3) == bytes(3)
