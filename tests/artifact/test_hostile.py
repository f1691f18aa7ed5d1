"""A damaged or hostile file is refused with one clear CheckpointError, quickly and cheaply."""

import copy
import json
import os
import struct

import pytest
import torch
from torch import nn

from artifact.nets import Net, bits, compacted, forge, split, write
from espalier.artifact import expand, inspect, load, save, state_dict
from espalier.errors import CheckpointError, RequestError


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A good artefact, and what it loads as."""
    path = tmp_path_factory.mktemp("good") / "net.espalier"
    save(path, compacted()[1], metrics={"accuracy": 0.5})
    return path, split(path), load(path, Net).state_dict()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bad.espalier"


def refused(path, match, by=(load, expand)):
    for read in by:
        with pytest.raises(CheckpointError, match=match) as caught:
            read(path, Net)
        assert str(path) in str(caught.value)
    if by == (load,):
        for read in (inspect, state_dict):
            with pytest.raises(CheckpointError, match=match):
                read(path)


def test_a_forged_file_that_says_nothing_wrong_is_read(good, path):
    """Else the forgeries below could be refused for another reason."""
    _, (header, document, data), state = good
    forge(path, header, document["content"], data)
    back = load(path, Net).state_dict()
    assert all(torch.equal(bits(back[name]), bits(state[name])) for name in state)


def first(header):
    return header["deep.weight"]


def sizes(entry, dtype, shape, begin, end):
    entry.update(dtype=dtype, shape=shape, data_offsets=[begin, end])


HEADERS = {
    "overlap": (lambda h: first(h)["data_offsets"].__setitem__(0, 0), "fill|overlaps"),
    "same place": (lambda h: first(h).update(h["head.weight"]), "overlaps|gap"),
    "outside": (lambda h: sizes(first(h), "F32", [1], 1 << 40, (1 << 40) + 4), "gap|cut short"),
    "beyond every size": (lambda h: first(h).update(data_offsets=[0, 1 << 70]), "count"),
    "negative": (lambda h: first(h).update(data_offsets=[-8, 0]), "count"),
    "huge shape": (lambda h: first(h).update(shape=[1 << 61, 1 << 61]), "does not fill"),
    "huge and empty": (lambda h: sizes(first(h), "F32", [0, 1 << 61, 1 << 61], 0, 0), "not fill"),
    "dimensions": (lambda h: first(h).update(shape=[1] * 100), "not a shape"),
    "no integer": (lambda h: first(h).update(shape=[8.0, 1, 3, 3]), "count"),
    "dtype": (lambda h: first(h).update(dtype="F31"), "unknown dtype"),
    "dtype is a list": (lambda h: first(h).update(dtype=["F32"]), "unknown dtype"),
    "dtype of another width": (lambda h: first(h).update(dtype="F64"), "does not fill"),
    "key": (lambda h: first(h).update(more=1), "described by"),
    "gone": (lambda h: h.pop("deep.weight"), "gap|follow"),
    "name": (lambda h: h.update({"x" * 10_000: h.pop("deep.weight")}), "plain name"),
    "unprintable": (lambda h: h.update({"\ud800": h.pop("deep.weight")}), "surrogates"),
    "no metadata": (lambda h: h.pop("__metadata__"), "not an artefact"),
    "foreign metadata": (lambda h: h.update(__metadata__={"format": "pt"}), "not an artefact"),
    "metadata is a list": (lambda h: h.update(__metadata__=[]), "metadata"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_that_cannot_be_true_is_refused(good, path, case):
    header, _, data = copy.deepcopy(good[1])
    spoil, match = HEADERS[case]
    spoil(header)
    write(path, header, data)
    refused(path, match, by=(load,))


RAW = {
    "empty": (b"", "not a safetensors file"),
    "pickle": (b"\x80\x04}q\x00." * 9, "not a safetensors file"),
    "zip": (b"PK\x03\x04" + b"\0" * 60, "not a safetensors file"),
    "text": (b"hello, this is no artefact at all", "not a safetensors file"),
    "absurd length": (struct.pack("<Q", (1 << 64) - 1) + b"{}", "header claims"),
    "large length": (struct.pack("<Q", 1 << 33) + b"{}", "header claims"),
    "length past the end": (struct.pack("<Q", 1 << 20) + b"{}", "cut short"),
    "zero length": (struct.pack("<Q", 0) + b"{}", "not JSON"),
    "not JSON": (struct.pack("<Q", 2) + b"{]", "not JSON"),
    "not UTF-8": (struct.pack("<Q", 4) + b'{"\xff"', "not UTF-8"),
    "deep": (struct.pack("<Q", 400_005) + b'{"a":' + b"[" * 400_000, "too deep"),
    "many": (struct.pack("<Q", 900_006) + b'{"a":[' + b"[],[]," * 150_000, "too many"),
    "quotes": (struct.pack("<Q", 400_001) + b"{" + b'"\\' * 200_000, "not JSON"),
    "long number": (struct.pack("<Q", 90_007) + b'{"a":1' + b"0" * 90_000 + b"}", "not JSON"),
    "a key twice": (struct.pack("<Q", 13) + b'{"a":1,"a":2}', "twice"),
    "NaN": (struct.pack("<Q", 9) + b'{"a":NaN}', "not a JSON number"),
}


@pytest.mark.parametrize("case", RAW)
def test_what_is_no_artefact_is_refused(path, case):
    path.write_bytes(RAW[case][0])
    refused(path, RAW[case][1], by=(load,))


def slices(content):
    return content["edits"]["slices"]


def attribute(content, **changes):
    content["edits"]["attributes"][0].update(changes)


def column(content, **changes):
    edit = {"name": "stem.0.weight", "shape": [3, 3, 3], "keep": [0]} | changes
    content["edits"]["columns"].append(edit)


CONTENTS = {
    "unknown parameter": (lambda c: slices(c)[0].update(name="wide.wieght"), "wide.weight"),
    "dunder parameter": (lambda c: slices(c)[0].update(name="__class__"), "no such parameter"),
    "long name": (lambda c: slices(c)[0].update(name="x" * 10**6), "plain name"),
    "index past the end": (lambda c: slices(c)[0]["keep"].__setitem__(-1, 12), "ascend within"),
    "negative index": (lambda c: slices(c)[0]["keep"].__setitem__(0, -1), "ascend within"),
    "falling": (lambda c: slices(c)[0]["keep"].reverse(), "ascend"),
    "twice": (lambda c: slices(c)[0]["keep"].__setitem__(0, 2), "ascend"),
    "none": (lambda c: slices(c)[0].update(keep=[]), "ascend"),
    "too many": (lambda c: slices(c)[0].update(keep=list(range(100_000))), "at most 12"),
    "bool": (lambda c: slices(c)[0]["keep"].__setitem__(1, True), "integers"),
    "infinite": (lambda c: slices(c)[0]["keep"].__setitem__(1, 2.5), "integers"),
    "size": (lambda c: slices(c)[0].update(size=13), "axis 0 of size 13"),
    "absurd size": (lambda c: slices(c)[0].update(size=10**400), "401 digits"),
    "large size": (lambda c: slices(c)[0].update(size=10**39), "count"),
    "axis": (lambda c: slices(c)[0].update(axis=7), "axis 7"),
    "negative axis": (lambda c: slices(c)[0].update(axis=-1), "count"),
    "edited twice": (lambda c: slices(c).append(slices(c)[0]), "edited twice"),
    "an edit is missing": (lambda c: slices(c).pop(0), "of another shape"),
    "no edits": (
        lambda c: c.update(edits={"slices": [], "attributes": [], "columns": []}),
        "of another shape",
    ),
    "edits are a list": (lambda c: c.update(edits=[]), "object"),
    "slices are a string": (lambda c: c["edits"].update(slices="abc"), "list"),
    "dunder attribute": (lambda c: attribute(c, name="__class__"), "plain path"),
    "dunder module": (lambda c: attribute(c, module="stem.__dict__"), "plain path"),
    "path trick": (lambda c: attribute(c, module="../stem"), "plain path"),
    "empty step": (lambda c: attribute(c, module="stem..0"), "plain path"),
    "newline": (lambda c: attribute(c, module="stem\n"), "plain name"),
    "no module": (lambda c: attribute(c, module="forward"), "no such number"),
    "module's parameter": (lambda c: attribute(c, module="head.weight"), "no such number"),
    "class attribute": (lambda c: attribute(c, name="_version", before=1, after=1), "no such"),
    "not a number": (lambda c: attribute(c, name="training", before=1, after=1), "no such number"),
    "another value": (lambda c: attribute(c, before=9), "expected the number 9"),
    "growing": (lambda c: attribute(c, after=10**9), "cannot go"),
    "zero": (lambda c: attribute(c, after=0), "cannot go"),
    "columns past the end": (lambda c: column(c, keep=[27]), "columns must ascend within"),
    "columns of many axes": (lambda c: column(c, shape=[3, 3, 3, 3]), "within three sizes"),
    "columns by half": (lambda c: column(c, keep=[0.5]), "within three sizes"),
    "columns of an absurd shape": (lambda c: column(c, shape=[3, 3, 10**30]), "a count"),
    "columns of no module": (lambda c: column(c, name="nowhere.weight"), "no such module"),
    "columns of a buffer": (lambda c: column(c, name="stem.1.running_mean"), "plain Conv2d"),
    "columns of another shape": (lambda c: column(c, shape=[3, 5, 5]), "filters of shape"),
    "tied to nothing": (lambda c: c.update(tied={"a": "b"}), "tied to no tensor"),
    "tied to itself": (lambda c: c.update(tied={"scale": "scale"}), "tied to no tensor"),
    "another name": (lambda c: c.update(tied={"more": "scale"}), "not in the model: more"),
    "missing key": (lambda c: c.pop("proof"), "'proof'"),
    "unknown key": (lambda c: c.update(code="import os"), "'code'"),
    "proof": (lambda c: c["proof"].update(difference="0"), "proof: difference"),
    "size of the model": (lambda c: c["after"].update(bytes=-1), "after: bytes"),
    "metrics": (lambda c: c.update(metrics=[]), "metrics"),
    "plan": (lambda c: c.update(plan={"espalier_plan": 7}), "its plan is refused"),
    "plan of odd types": (
        lambda c: c.update(
            plan={
                "espalier_plan": 1,
                "parameters": {
                    "a": {"shape": [4], "keep": 1, "set": {"n_of_m": {"n": "x", "m": []}}}
                },
            }
        ),
        "its plan",
    ),
}


@pytest.mark.parametrize("case", CONTENTS)
def test_a_document_that_cannot_be_true_is_refused_though_its_checksums_are_right(good, path, case):
    header, document, data = copy.deepcopy(good[1])
    spoil, match = CONTENTS[case]
    spoil(document["content"])
    forge(path, header, document["content"], data)
    refused(path, match)


@pytest.mark.parametrize("version", [0, 2, "1", None, 1.0, True, [1]])
def test_an_unknown_schema_version_is_refused(good, path, version):
    header, document, data = good[1]
    forge(path, header, document["content"], data, version=version)
    refused(path, "schema version", by=(load,))


def test_bytes_after_the_last_tensor_are_refused(good, path):
    header, document, data = good[1]
    forge(path, header, document["content"], data + b"more")
    refused(path, "4 bytes follow", by=(load,))


def test_an_infinite_number_is_refused(good, path):
    header, document, data = copy.deepcopy(good[1])
    text = json.dumps(document).replace('{"accuracy": 0.5}', '{"accuracy": 1e999}')
    assert "1e999" in text
    header["__metadata__"]["espalier"] = text
    write(path, header, data)
    refused(path, "is finite", by=(load,))


def test_a_constructor_of_something_else_is_refused(good):
    path = good[0]
    with pytest.raises(CheckpointError, match="no such"):
        load(path, lambda: nn.Linear(2, 2))
    with pytest.raises(RequestError, match="must build a module"):
        load(path, lambda: "Net()")
    with pytest.raises(RequestError, match="meta"):
        load(path, lambda: Net().to("meta"))


def test_another_kind_of_number_is_refused(path):
    net = nn.Linear(2, 2)
    net.register_buffer("count", torch.tensor(3))
    save(path, net)

    def make():
        other = nn.Linear(2, 2)
        other.register_buffer("count", torch.tensor(3.0))
        return other

    with pytest.raises(CheckpointError, match="of another kind: count"):
        load(path, make)


def test_nothing_of_the_model_changes_when_the_file_does_not_fit(path):
    save(path, nn.Linear(2, 3))
    model = nn.Linear(2, 2)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(CheckpointError, match="another shape"):
        load(path, lambda: model)
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)


def test_folders_pipes_and_missing_files_are_refused(tmp_path):
    refused(tmp_path, "Is a directory", by=(load,))
    refused(tmp_path / "no", "No such file", by=(load,))
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "not a regular file", by=(load,))
