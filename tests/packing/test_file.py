"""The packed file: whatever goes in comes back bit for bit; whatever was touched is refused."""

import zlib
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from espalier.errors import CheckpointError, RequestError, RunFolderError
from espalier.packing import _coder as coder
from espalier.packing import _container as container
from espalier.packing import differing, pack, unpack
from espalier.packing._container import from_bytes, to_bytes
from espalier.packing._positions import Spread
from espalier.packing._record import Code, Kind, Record, to_header
from espalier.packing._values import DTYPES, pattern_type, tensor_of

LIMIT = 1 << 22


@pytest.fixture(params=["coded", "fixed"])
def _with_and_without(request, monkeypatch):
    """With the entropy coder, and on a machine that has none."""
    if request.param == "coded":
        pytest.importorskip("constriction")
    else:
        monkeypatch.setattr(container, "available", lambda: False)
        monkeypatch.setattr(coder, "_library", lambda: pytest.fail("nothing to decode"))


@st.composite
def tensors(draw):
    """Any bits at all, of any dtype and shape; often few distinct values, often zeros."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = tuple(draw(st.lists(st.integers(0, 9), max_size=4)))
    size, width = int(np.prod(shape)), pattern_type(dtype).itemsize
    generator = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    high = 2 if dtype == torch.bool else 1 << 8 * width - 1
    palette = generator.integers(0, high, draw(st.sampled_from([1, 2, 5, 300])), np.uint64)
    found = palette[generator.integers(0, len(palette), size)]
    found[generator.random(size) > draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))] = 0
    return tensor_of(found.astype(pattern_type(dtype)), dtype, shape)


NAMES = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), max_size=20)


@pytest.mark.usefixtures("_with_and_without")
@given(st.dictionaries(NAMES, tensors(), max_size=5))
@settings(max_examples=60, deadline=None)
def test_everything_comes_back_bit_for_bit_and_is_accounted_for(given_tensors):
    content, packing = to_bytes(given_tensors)
    back = from_bytes(content, LIMIT)
    assert list(back) == list(given_tensors)
    assert differing(given_tensors, back) == []
    spent = packing.header_bits + packing.filling_bits + sum(row.bits for row in packing.tensors)
    assert spent == 8 * len(content) == 8 * packing.file_bytes
    assert 0 <= packing.filling_bits < 8 * (2 * len(given_tensors) + 1)
    assert to_bytes(given_tensors)[0] == content  # the same bytes every time


def test_special_values_come_back():
    nan = tensor_of(np.array([0x7FC00001, 0xFFC12345, 0x7F800001], np.uint32), torch.float32, (3,))
    odd = {
        "nan": nan,
        "zeros": torch.tensor([0.0, -0.0, 0.0, -0.0]),
        "tiny": torch.tensor([1e-45, -1e-45, 0.0]),
        "infinite": torch.tensor([float("inf"), -float("inf")]),
        "bfloat": torch.tensor([1.5, -0.0], dtype=torch.bfloat16),
        "large": torch.tensor([-(1 << 63), (1 << 63) - 1]),
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "view": torch.arange(6.0).reshape(2, 3).T,
    }
    assert differing(odd, from_bytes(to_bytes(odd)[0], LIMIT)) == []


def test_differing_sees_every_difference():
    one = {"a": torch.zeros(2, 3), "b": torch.ones(1)}
    assert differing(one, {name: t.clone() for name, t in one.items()}) == []
    for other in (
        {"a": torch.zeros(3, 2)},
        {"a": torch.zeros(2, 3, dtype=torch.int32)},
        {"a": -torch.zeros(2, 3)},
    ):
        assert differing(one, {**one, **other}) == ["a"]
    assert differing(one, {"a": one["a"]}) == ["b"]
    assert differing({"a": one["a"]}, one) == ["b"]


@cache
def packed():
    """The file of the tensors below."""
    return to_bytes(lenet_like())[0]


def lenet_like():
    """Sparse, quantised, dense, shared and counted: one of each kind."""
    generator = np.random.default_rng(0)
    sparse = torch.zeros(40, 50)
    sparse.view(-1)[generator.choice(2000, 60, replace=False)] = torch.tensor(
        generator.choice([-0.2, -0.1, 0.1, 0.2], 60), dtype=torch.float32
    )
    half = torch.tensor(generator.normal(size=12), dtype=torch.float16)
    return {"fc1.weight": sparse, "fc1.bias": half, "again": sparse, "steps": torch.tensor(300)}


def test_a_tensor_that_repeats_costs_its_name_and_a_few_bytes():
    repeated = lenet_like()
    once = {name: t for name, t in repeated.items() if name != "again"}
    assert len(to_bytes(repeated)[0]) - len(to_bytes(once)[0]) <= 4 + len("again\n")


def test_every_truncation_and_every_flipped_bit_is_refused():
    content = packed()
    for end in range(len(content)):
        with pytest.raises(CheckpointError):
            from_bytes(content[:end], LIMIT)
    for at in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[at // 8] ^= 1 << at % 8
        with pytest.raises(CheckpointError):
            from_bytes(bytes(flipped), LIMIT)
    with pytest.raises(CheckpointError, match="checksum"):
        from_bytes(content + b"\0", LIMIT)


SMALL = 1 << 15  # time to read grows with what a file may claim


def outcome(content):
    """The tensors, or None for one clear error."""
    try:
        return from_bytes(content, SMALL)
    except CheckpointError as error:
        said = str(error)
    assert "\n" not in said
    return None


def forged(body):
    return b"esp\x01" + zlib.crc32(body).to_bytes(4, "little") + body


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_forged_checksum_gives_tensors_or_one_clear_error(data):
    body = bytearray(packed()[8:])
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    found = outcome(forged(bytes(body))) or {}
    assert sum(t.numel() * t.element_size() for t in found.values()) <= SMALL


@given(st.lists(st.integers(0, 255), max_size=60).map(bytes))
@settings(max_examples=300, deadline=None)
def test_a_forged_header_gives_tensors_or_one_clear_error(text):
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = deflate.compress(b"\x01a\n" + text) + deflate.flush()
    outcome(forged(body + bytes(9)))


WEIGHT = Record(name="w", dtype=torch.float32, shape=(4, 4), code=Code.DENSE, nonzero=16)
HOSTILE = {
    "bomb": ([replace(WEIGHT, shape=(1 << 40,), code=Code.GAPS, nonzero=0, gap_bits=1)], b"",
             "would take 4,398,046,511,104 bytes"),
    "many bombs": ([replace(WEIGHT, name=str(i), shape=(1 << 18,), code=Code.GAPS, nonzero=0,
                            gap_bits=1) for i in range(5)], b"", "would take"),
    "copies of a bomb": ([replace(WEIGHT, shape=(1 << 19,), code=Code.GAPS, nonzero=0, gap_bits=1),
                          *(replace(WEIGHT, name=str(i), code=Code.COPY) for i in range(5))],
                         b"", "would take"),
    "shape that overflows": ([replace(WEIGHT, shape=(1 << 40, 1 << 40), nonzero=0)], b"",
                             "beyond all sizes"),
    "empty and overflowing": ([replace(WEIGHT, shape=(0, 1 << 40, 1 << 40), nonzero=0)], b"",
                              "beyond all sizes"),
    "more nonzeros than entries": ([replace(WEIGHT, code=Code.BITMASK, nonzero=17)], bytes(70),
                                   "number that cannot be"),
    "another number of nonzeros": ([replace(WEIGHT, code=Code.BITMASK, nonzero=3)],
                                   b"\x01\x00" + bytes(12), "1 nonzeros where 3"),
    "gap beyond the end": ([replace(WEIGHT, code=Code.GAPS, nonzero=1, gap_bits=8)],
                           b"\xff" + bytes(4), "outside of the tensor"),
    "gaps without a nonzero": ([replace(WEIGHT, code=Code.GAPS, nonzero=1, gap_bits=1)],
                               b"\x00" + bytes(4), "0 nonzeros where 1"),
    "table without the entry": ([replace(WEIGHT, kind=Kind.TABLE, size=3)],
                                bytes(12) + b"\xff" * 4, "codebook does not have"),
    "empty table": ([replace(WEIGHT, kind=Kind.TABLE, size=0)], b"", "codebook that cannot be"),
    "levels of integers": ([replace(WEIGHT, dtype=torch.int32, kind=Kind.LEVELS, size=2)],
                           bytes(90), "codebook that cannot be"),
    "half a truth": ([replace(WEIGHT, dtype=torch.bool)], b"\x02" * 16, "neither 0 nor 1"),
    "copy of itself": ([replace(WEIGHT, code=Code.COPY)], b"", "number that cannot be"),
    "two of a name": ([WEIGHT, WEIGHT], bytes(128), "one name"),
    "too little": ([WEIGHT], bytes(63), "cut short"),
    "too much": ([WEIGHT], bytes(64) + b"\1", "more or less"),
    "rows without end": ([replace(WEIGHT, shape=(1 << 17, 1), code=Code.CODED, nonzero=9,
                                  spread=Spread(3, 3))], b"\1", "more rows"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_file_that_cannot_be_is_refused(case):
    records, rest, match = HOSTILE[case]
    with pytest.raises(CheckpointError, match=match):
        from_bytes(forged(to_header(records) + rest), LIMIT)


def test_what_is_refused_above_would_be_read_if_it_were_true():
    found = from_bytes(forged(to_header([WEIGHT]) + bytes(64)), LIMIT)
    assert differing(found, {"w": torch.zeros(4, 4)}) == []


def test_a_header_that_inflates_without_end_is_refused():
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = deflate.compress(bytes(1 << 25)) + deflate.flush()
    with pytest.raises(CheckpointError, match="has no end"):
        from_bytes(forged(body), LIMIT)


def test_foreign_files_and_other_versions_are_refused(tmp_path):
    path = tmp_path / "x.packed"
    for content, match in (
        (b"", "not a packed model"),
        (b"PK\x03\x04" + bytes(30), "not a packed model"),
        (b"esp\x02" + bytes(30), "version 2 and this Espalier reads 1"),
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=match) as caught:
            unpack(path)
        assert str(path) in str(caught.value)
    with pytest.raises(CheckpointError, match="cannot be read"):
        unpack(tmp_path / "none.packed")
    with pytest.raises(RunFolderError, match="cannot be written"):
        pack(tmp_path / "none" / "x.packed", {})


def test_the_limit_can_be_moved(tmp_path):
    pack(tmp_path / "x.packed", {"w": torch.zeros(1000)})
    with pytest.raises(CheckpointError, match="larger limit"):
        unpack(tmp_path / "x.packed", limit=3999)
    assert unpack(tmp_path / "x.packed", limit=4000)["w"].shape == (1000,)


@pytest.mark.parametrize(
    ("tensors", "match"),
    [
        ({"w": torch.zeros(2, dtype=torch.complex64)}, "complex64 cannot be packed"),
        ({"w": torch.zeros(2, device="meta")}, "no plain values"),
        ({"w": torch.zeros(2, 2).to_sparse()}, "no plain values"),
        ({"w": 3}, "only tensors"),
        ({"w\n": torch.zeros(2)}, "printable"),
        ({"w" * 600: torch.zeros(2)}, "printable"),
    ],
)
def test_what_cannot_be_packed_is_refused(tmp_path, tensors, match):
    with pytest.raises(RequestError, match=match):
        pack(tmp_path / "x.packed", tensors)
    assert not (tmp_path / "x.packed").exists()


def test_a_module_is_its_state_dictionary(tmp_path):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    pack(tmp_path / "x.packed", model)
    other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    other.load_state_dict(unpack(tmp_path / "x.packed"))
    assert differing(dict(model.state_dict()), dict(other.state_dict())) == []


GOLDEN = (
    "65737001eecda2a663c1a630313d31338fabb824b5a0988b9949c3c8661d230b1307230f030b8302030300cd"
    "cccc3dcbcdfbe54d66be8810296608aeb3b409bac23e99b44c3eedb6e2b9fe33203c2731afb85dbd9bbd2c01"
    "000000000000eaf9ad40e87258a8c13167ecc7d914aa781d6377847aeea95d1a176c19edfe47301095eae427"
    "a20d11f0510b6cab3a7e37dd03"
)


def test_files_written_before_can_be_read():
    assert differing(lenet_like(), from_bytes(bytes.fromhex(GOLDEN), LIMIT)) == []


def test_a_coded_file_without_the_library_says_what_to_install(monkeypatch):
    content, _ = to_bytes(lenet_like())
    monkeypatch.setitem(__import__("sys").modules, "constriction", None)
    with pytest.raises(RequestError, match=r"espalier\[pack\]"):
        from_bytes(content, LIMIT)
