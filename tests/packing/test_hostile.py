"""Packed files of a few bytes that claim gigabytes are refused by their length alone."""

import zlib

import pytest
import torch

from espalier.errors import CheckpointError, RequestError
from espalier.packing import _record as record
from espalier.packing import pack, unpack
from espalier.packing._positions import Spread
from espalier.packing._record import Code, Kind, Record, to_header

ALIKE = {"kind": Kind.TABLE, "size": 1}
"""All values are one: they take no bits."""
ROWS = Spread(6, 6)


def write(path, *records, data=b"\7"):
    body = to_header(records) + data
    path.write_bytes(b"esp\x01" + zlib.crc32(body).to_bytes(4, "little") + body)


def one(entries, **given):
    return Record(
        **({"name": "w", "dtype": torch.uint8, "shape": (entries,), "code": Code.DENSE} | given)
    )


@pytest.mark.parametrize(
    ("claim", "match"),
    [
        (one(1 << 30, **ALIKE), "would take 1,073,741,824 bytes"),
        (one(1 << 30, code=Code.GAPS, nonzero=1 << 29, gap_bits=0, **ALIKE), "gaps that cannot be"),
        (one(1 << 20, code=Code.GAPS, padding=1 << 20, gap_bits=0, **ALIKE), "gaps that cannot be"),
        (one(1 << 20, code=Code.GAPS, nonzero=1 << 20, padding=1, gap_bits=1, **ALIKE), "gaps that"),
        (one(1 << 30, code=Code.CODED, nonzero=1 << 29, **ALIKE), "would take"),
        (one(1, shape=(1 << 15, 64), code=Code.CODED, nonzero=1 << 20, spread=ROWS, **ALIKE), "more rows"),
    ],
    ids=range(6),
)  # fmt: skip
def test_what_a_file_of_this_length_cannot_pay_for_is_refused(tmp_path, claim, match):
    write(tmp_path / "w.packed", claim)
    assert (tmp_path / "w.packed").stat().st_size < 40
    with pytest.raises(CheckpointError, match=match):
        unpack(tmp_path / "w.packed")


def test_more_may_be_allowed(tmp_path):
    write(tmp_path / "w.packed", one(1 << 25, **ALIKE))
    with pytest.raises(CheckpointError, match="give a larger limit"):
        unpack(tmp_path / "w.packed")
    assert bool((unpack(tmp_path / "w.packed", limit=1 << 25)["w"] == 7).all())


def test_tensors_without_entries_are_counted_too(tmp_path, monkeypatch):
    few = [one(0, name=str(n)) for n in range(5)]
    write(tmp_path / "w.packed", *few, data=b"")
    assert len(unpack(tmp_path / "w.packed")) == 5
    monkeypatch.setattr(record, "MAX_TENSORS", 4)
    with pytest.raises(CheckpointError, match="5 tensors, and at most 4 are read"):
        unpack(tmp_path / "w.packed")
    with pytest.raises(RequestError, match="5 tensors; a packed file holds at most 4"):
        pack(tmp_path / "v.packed", {str(n): torch.zeros(0) for n in range(5)})
