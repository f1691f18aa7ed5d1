import gzip
import re
import struct

import pytest
import torch

from espalier import data
from espalier.data._mnist import FILES, read_idx
from espalier.errors import DataError


def idx(shape, values, magic=b"\x00\x00\x08"):
    return magic + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + bytes(values)


@pytest.fixture
def folder(tmp_path):
    for part, count in (("train", 3), ("test", 2)):
        images, labels = FILES[part]
        (tmp_path / images).write_bytes(idx((count, 2, 2), range(4 * count)))
        (tmp_path / labels).write_bytes(idx((count,), range(count)))
    return tmp_path


def test_images_and_labels_are_read_in_file_order(folder):
    split = data.load("mnist", folder)
    assert split.train.images.tolist() == torch.arange(12).view(3, 1, 2, 2).tolist()
    assert split.train.images.dtype == torch.uint8
    assert split.train.labels.tolist() == [0, 1, 2]
    assert len(split.test) == 2
    assert (split.train.mean, split.train.std) == ((0.1307,), (0.3081,))


def test_gzipped_files_read_the_same(folder):
    plain = data.load("mnist", folder)
    for names in FILES.values():
        for name in names:
            raw = folder / name
            (folder / f"{name}.gz").write_bytes(gzip.compress(raw.read_bytes()))
            raw.unlink()
    packed = data.load("mnist", folder)
    assert torch.equal(plain.train.images, packed.train.images)
    assert torch.equal(plain.test.labels, packed.test.labels)


def test_gzip_is_known_by_its_bytes_and_not_by_its_name(tmp_path):
    file = tmp_path / "labels"
    file.write_bytes(gzip.compress(idx((2,), [7, 8])))
    assert read_idx(file, dims=1).tolist() == [7, 8]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", r"byte 0: magic number absent, expected 00000801"),
        (b"\x00\x00\x0d\x01" + bytes(8), r"byte 0: magic number 00000d01, expected 00000801"),
        (idx((2, 1, 1), [1, 2]), r"byte 0: magic number 00000803, expected 00000801"),
        (b"\x00\x00\x08\x01\x00", r"byte 5: .*header: expected at least 8 bytes, got 5"),
        (idx((5,), [1, 2, 3]), r"byte 11: expected 13 bytes for shape \(5,\), got 11"),
        (idx((2,), [1, 2, 3]), r"byte 10: expected 10 bytes for shape \(2,\), got 11"),
    ],
    ids=["empty", "type", "dims", "header", "short", "long"],
)
def test_a_corrupt_file_is_named_with_the_byte(tmp_path, content, says):
    file = tmp_path / "some-labels"
    file.write_bytes(content)
    with pytest.raises(DataError, match=f"^{re.escape(str(file))}: {says}"):
        read_idx(file, dims=1)


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_broken_gzip_stream_is_named(tmp_path, damage):
    packed = bytearray(gzip.compress(idx((500,), [i * i % 251 for i in range(500)])))
    if damage == "cut":
        del packed[len(packed) // 2 :]
    else:
        packed[-6] ^= 0xFF  # the checksum
    file = tmp_path / "labels.gz"
    file.write_bytes(packed)
    with pytest.raises(DataError, match=rf"labels.gz: the gzip stream is broken .*{len(packed)}"):
        read_idx(file, dims=1)


def test_a_label_above_nine_is_named_with_its_byte(folder):
    name = FILES["train"][1]
    (folder / name).write_bytes(idx((3,), [1, 10, 11]))
    with pytest.raises(DataError, match=rf"{name}: byte 9: label 10 of record 1, expected 0 to 9"):
        data.load("mnist", folder)


def test_images_and_labels_must_be_equally_many(folder):
    (folder / FILES["test"][1]).write_bytes(idx((3,), [0, 1, 2]))
    with pytest.raises(DataError, match=r"holds 2 images, .* 3 labels"):
        data.load("mnist", folder)


def test_a_missing_file_or_folder_says_what_is_expected(folder):
    (folder / FILES["test"][0]).unlink()
    with pytest.raises(DataError, match=r"no t10k-images-idx3-ubyte or .*expected .*train-labels"):
        data.load("mnist", folder)
    with pytest.raises(DataError, match=r"no such folder; expected .*train-images-idx3-ubyte"):
        data.load("mnist", folder / "absent")
