import pytest
import torch

from espalier import data
from espalier.data._cifar10 import FOLDER, RECORD, TEST_FILE, TRAIN_FILES
from espalier.errors import DataError


def batch(first, labels):
    """Records whose red plane is `first` + index, green 100 and blue 200."""
    return b"".join(
        bytes([label]) + bytes([first + i]) * 1024 + b"\x64" * 1024 + b"\xc8" * 1024
        for i, label in enumerate(labels)
    )


@pytest.fixture
def folder(tmp_path):
    inner = tmp_path / FOLDER
    inner.mkdir()
    for number, name in enumerate((*TRAIN_FILES, TEST_FILE)):
        (inner / name).write_bytes(batch(10 * number, [number, 9]))
    return tmp_path


def test_batches_are_joined_in_order_with_planes_as_channels(folder):
    split = data.load("cifar10", folder, records=2)
    assert split.train.images.shape == (10, 3, 32, 32)
    assert split.train.images[:, 0, 5, 5].tolist() == [0, 1, 10, 11, 20, 21, 30, 31, 40, 41]
    assert split.train.images[3, 1:, 0, 31].tolist() == [100, 200]
    assert split.train.labels.tolist() == [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]
    assert split.test.labels.tolist() == [5, 9]
    assert split.test.classes[9] == "truck"


def test_rows_and_columns_are_not_exchanged(folder):
    content = bytearray((folder / FOLDER / TEST_FILE).read_bytes())
    content[1 + 2 * 32 + 7] = 255  # row 2, column 7 of the red plane
    (folder / FOLDER / TEST_FILE).write_bytes(content)
    assert data.load("cifar10", folder, records=2).test.images[0, 0, 2, 7] == 255


def test_the_inner_folder_may_be_given_too(folder):
    outer = data.load("cifar10", folder, records=2)
    inner = data.load("cifar10", folder / FOLDER, records=2)
    assert torch.equal(outer.train.images, inner.train.images)


def test_a_wrong_length_is_told_in_bytes_and_records(folder):
    file = folder / FOLDER / TRAIN_FILES[2]
    file.write_bytes(file.read_bytes()[:-1000])
    says = rf"data_batch_3.bin: byte 5146: expected 6146 bytes \(2 records of {RECORD}\), got 5146"
    with pytest.raises(DataError, match=says):
        data.load("cifar10", folder, records=2)
    with pytest.raises(DataError, match=r"data_batch_1.bin: .*expected 30730000 bytes"):
        data.load("cifar10", folder)


def test_a_label_out_of_range_is_named_with_record_and_byte(folder):
    (folder / FOLDER / TEST_FILE).write_bytes(batch(0, [9, 10]))
    with pytest.raises(DataError, match=r"test_batch.bin: byte 3073: label 10 of record 1"):
        data.load("cifar10", folder, records=2)


def test_missing_batches_are_named(folder, tmp_path):
    (folder / FOLDER / TRAIN_FILES[4]).unlink()
    with pytest.raises(DataError, match=r"data_batch_5\.bin missing; expected all six"):
        data.load("cifar10", folder, records=2)
    with pytest.raises(DataError, match=r"no such folder; expected .*test_batch\.bin"):
        data.load("cifar10", tmp_path / "absent")


@pytest.mark.parametrize(
    ("there", "advice"),
    [
        ("cifar10_avif.tar.xz", r"AVIF archive: run `python .*unpack_cifar10\.py CACHE_DIR`"),
        ("cifar-10-binary.tar.gz", r"unpack the archive first: `tar -xf "),
        ("data_batch_1", r"Python version, which is pickled and so is never opened"),
        ("something", r"expected cifar-10-batches-bin/ with data_batch_1\.bin"),
    ],
)
def test_another_form_of_the_data_set_is_recognised(tmp_path, there, advice):
    (tmp_path / there).touch()
    with pytest.raises(DataError, match=advice):
        data.load("cifar10", tmp_path)
