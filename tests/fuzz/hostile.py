"""Small files that have taken the machine, or its time: each is to be read or refused as any other."""

import copy
import gzip
import json
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

from artifact.nets import forge, split
from espalier.packing._positions import Spread
from espalier.packing._record import Code, Kind, Record, to_header
from fuzz import mutation
from fuzz.readers import _packed, png_of, reader, resigned

Hostile = tuple[str, Callable[[], bytes]]
"""What reads it, and the file."""

_LINE = {"axis": 0, "units": [[0, 20, 1]]}


def coupled(groups: Any, members: dict[str, Any]) -> dict[str, Any]:
    rows = {name: {"shape": [20, 1, 5, 5], "set": "filters", "keep": 1} for name in members}
    part = {"groups": groups, "members": members}
    return {"espalier_plan": 2, "parameters": rows, "parts": [{"coupled": part}]}


def plan(data: Any) -> bytes:
    return yaml.safe_dump(data).encode()


def inside(data: Any) -> bytes:
    """An artefact with a plan and checksums that are right."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        path.write_bytes(reader("net.espalier").seeds[1])
        header, document, content = split(path)
        forge(path, header, document["content"] | {"plan": data}, content)
        return path.read_bytes()


LONG = [[0, 10**12, 0]]
WIDE = {f"w{n}": {"axis": 0, "units": [[0, 1, 2**24]]} for n in range(12)}
PLANS = {
    "a run of nothing, 10^12 times": lambda: coupled([[1, 20]], {"w": {"axis": 0, "units": LONG}}),
    "twelve members of 2^24": lambda: coupled([[1, 20]], WIDE),
    "groups of 10^30": lambda: coupled([[1, 10**30]], {"w": _LINE}),
    "groups of 10^15": lambda: coupled([[1, 10**15]], {"w": _LINE}),
    "a shape of 2^61 that groups of 7 do not divide": lambda: {
        "espalier_plan": 2,
        "parameters": {"w": {"shape": [2, 2**61], "set": {"n_of_m": {"n": 2, "m": 7}}, "keep": 1}},
    },
    "a shape of 2^39 that groups of 7 do not divide": lambda: {
        "espalier_plan": 2,
        "parameters": {"w": {"shape": [2, 2**39], "set": {"n_of_m": {"n": 2, "m": 7}}, "keep": 1}},
    },
}


def packed(data: bytes = b"", **given: Any) -> bytes:
    settled = {"name": "w", "dtype": torch.uint8, "shape": (1 << 30,), "code": Code.DENSE}
    return _packed(to_header([Record(**{**settled, **given})]) + data)


ONE, SAME = b"\7", {"kind": Kind.TABLE, "size": 1}
"""All values are one, and cost nothing."""


def empty_tensors(count: int) -> bytes:
    records = [
        Record(name=f"{n:x}", dtype=torch.uint8, shape=(0,), code=Code.DENSE) for n in range(30_000)
    ]
    body = to_header(records)
    if count <= len(records):
        return _packed(body)
    # What the writer refuses is written by hand: the number of tensors, their names, three bytes for each.
    import zlib

    from espalier.packing import _record as record

    names = "".join(f"{n:x}\n" for n in range(count)).encode()
    deflate = zlib.compressobj(
        9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, record._DICTIONARY
    )
    row = b"".join(record._number(n) for n in record._numbers(records[0]))
    text = record._number(count) + names + row * count
    return _packed(deflate.compress(text) + deflate.flush())


def many_rows() -> bytes:
    """32,768 rows to be decoded one by one, out of next to nothing."""
    shape = (1 << 15, 64)
    return packed(ONE, shape=shape, code=Code.CODED, nonzero=1 << 20, spread=Spread(6, 6), **SAME)


def idx(*sizes: int) -> bytes:
    return struct.pack(f">4B{len(sizes)}I", 0, 0, 8, len(sizes), *sizes)


def bomb(start: bytes) -> bytes:
    """6.4 GB of zeros behind a header, in 6 MB: members of a gzip file follow one another."""
    return gzip.compress(start) + gzip.compress(bytes(1 << 24)) * 400


ALIASES = "a: &a [x, x]\n" + "".join(
    f"{c}: &{c} [{', '.join([f'*{p}'] * 9)}]\n"
    for p, c in zip("abcdefghi", "bcdefghij", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"b{n}: &b{n} {{<<: [{', '.join(['*a'] * 200)}]}}\n" for n in range(300)
)
TEXTS = {
    "aliases of aliases": ALIASES,
    "merges": MERGES,
    "an alias of itself": "a: &a [*a]\n",
    "lists in lists": "a: " + "[" * 100_000,
    "lists in lists, closed": "a: " + "[" * 50_000 + "]" * 50_000,
    "mappings in mappings": "{a: " * 50_000,
    "keys that are keys": "? " * 50_000,
    "lists in lists, by lines": "- " * 20_000,
    "a number of a million digits": "a: " + "9" * 10**6,
    "minutes and seconds": "espalier_plan: 1:30\nmodel: lenet5\n",
    "a key twice": "espalier_plan: 2\nespalier_plan: 2\nparameters: {}\n",
    "a day that is none": "a: 2026-13-45\n",
    "a tag": "!!python/object/apply:os.system ['true']\n",
    "a set": "!!set {a, b}\n",
    "anchors": "[" + ", ".join(f"&a{n} x" for n in range(30_000)) + "]",
    "four million commas": "[" + "a," * (1 << 22) + "]",
    "nothing for long": " " * (1 << 24),
}


def tensors(count: int) -> bytes:
    entry = b'{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    text = b"{" + b",".join(b'"%x":%s' % (n, entry) for n in range(count)) + b"}"
    return len(text).to_bytes(8, "little") + text


def events(*lines: Any) -> bytes:
    return "".join(f"{json.dumps(line)}\n" for line in lines).encode()


def forged(change: Callable[[dict[str, Any]], Any]) -> bytes:
    """A checkpoint that says something else, with a checksum that is right; trees are lists of pairs."""

    def changed(structure: dict[str, Any]) -> dict[str, Any]:
        top = copy.deepcopy(dict(structure["dict"]))
        change(top)
        return {"dict": [[key, value] for key, value in top.items()]}

    return resigned(reader("checkpoint.safetensors").seeds[0], changed)


def numbers(node: dict[str, Any]) -> None:
    """A number in place of everything that a mapping holds."""
    for pair in node["dict"]:
        pair[1] = 7


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"

HOSTILE: dict[str, Hostile] = {
    **{f"a plan in an artefact: {n}": ("net.espalier", lambda m=m: inside(m())) for n, m in PLANS.items()},
    **{f"a plan: {name}": ("plan.yaml", lambda m=make: plan(m())) for name, make in PLANS.items()},
    **{f"a plan: {name}": ("plan.yaml", text.encode) for name, text in TEXTS.items()},
    **{f"a recipe: {name}": ("recipe.yaml", text.encode) for name, text in TEXTS.items()},
    "packed: gaps of no bits": (
        "net.packed", lambda: packed(ONE, code=Code.GAPS, nonzero=1 << 29, gap_bits=0, **SAME)),
    "packed: gaps that are all padding": (
        "net.packed", lambda: packed(code=Code.GAPS, padding=1 << 30, gap_bits=0)),
    "packed: 2^30 times the only value": ("net.packed", lambda: packed(ONE, **SAME)),
    "packed: 2^30 coded positions": (
        "net.packed", lambda: packed(ONE, code=Code.CODED, nonzero=1 << 29, **SAME)),
    "packed: 2^24 coded positions": (
        "net.packed", lambda: packed(ONE, shape=(1 << 24,), code=Code.CODED, nonzero=1 << 24, **SAME)),
    "packed: 2^30 zeros": ("net.packed", lambda: packed(code=Code.CODED)),
    "packed: rows out of nothing": ("net.packed", many_rows),
    "packed: 1.5 million empty tensors": ("net.packed", lambda: empty_tensors(1_500_000)),
    "packed: 30,000 empty tensors": ("net.packed", lambda: empty_tensors(30_000)),
    "IDX: a bomb that says what it holds": ("images.idx", lambda: bomb(idx(400, 1 << 12, 1 << 12))),
    "IDX: a bomb behind one image": ("images.idx", lambda: bomb(idx(1, 28, 28))),
    "IDX: 2^96 bytes": ("images.idx", lambda: idx(2**32 - 1, 2**32 - 1, 2**32 - 1)),
    "IDX: nothing, many times": ("images.idx", lambda: idx(0, 2**32 - 1, 2**32 - 1)),
    "PNG: 1 by 10,000": ("image.png", lambda: png_of(1, 10_000)),
    "PNG: 1 by 60,000": ("image.png", lambda: png_of(1, 60_000)),
    "PNG: 60,000 by 1": ("image.png", lambda: png_of(60_000, 1)),
    "PNG: 13,000 by 13,000": ("image.png", lambda: png_of(13_000, 13_000, 1)),
    "PNG: 2^31 by 2^31": ("image.png", lambda: png_of(2**31 - 1, 2**31 - 1)),
    "EPS by the name of PNG": ("image.png", lambda: EPS),
    "weights: a header of 2^63": ("weights.safetensors", lambda: (2**63).to_bytes(8, "little") + b"{" * 99),
    "weights: 500,000 empty tensors": ("weights.safetensors", lambda: tensors(500_000)),
    "weights: lists in lists": (
        "weights.safetensors", lambda: (10**5 + 5).to_bytes(8, "little") + b'{"a":' + b"[" * 10**5),
    "config: lists in lists": ("config.json", lambda: b'{"a":' + b"[" * 10**6),
    "config: a number of a million digits": ("config.json", lambda: b'{"version":' + b"9" * 10**6 + b"}"),
    "config: a recipe that is a list": (
        "config.json", lambda: b'{"format": "espalier-run", "version": 2, "recipe": [1]}'),
    "result: four million commas": ("result.json", lambda: b'{"a":[' + b"1," * (1 << 22) + b"1]}"),
    "events: metrics that are a list": ("metrics.jsonl", lambda: events({"event": "epoch", "metrics": [1]})),
    "events: a phase that is a list": ("metrics.jsonl", lambda: events({"event": "phase", "phase": [[1]]})),
    "events: a kind that is a mapping": ("metrics.jsonl", lambda: events({"event": {}})),
    "events: layers that are words": ("metrics.jsonl", lambda: events({"event": "update", "layers": {"a": "b"}})),
    "events: lists in lists": ("metrics.jsonl", lambda: b"[" * 10**5 + b"\n"),
    "events: a line of 2^24": ("metrics.jsonl", lambda: b'{"event": "' + b"x" * (1 << 24) + b'"}\n'),
    "a checkpoint without progress": ("checkpoint.safetensors", lambda: forged(lambda top: top.pop("progress"))),
    "a checkpoint that is a list": ("checkpoint.safetensors", lambda: resigned(
        reader("checkpoint.safetensors").seeds[0], lambda _: {"list": [1, 2]})),
    "a checkpoint whose notes are a word": (
        "checkpoint.safetensors", lambda: forged(lambda top: top.update(notes="x"))),
    "a checkpoint whose state is a word": (
        "checkpoint.safetensors", lambda: forged(lambda top: top.update(notes={"dict": [["state", "x"]]}))),
    "a checkpoint whose model is a list": (
        "checkpoint.safetensors", lambda: forged(lambda top: dict(top["parts"]["dict"]).update(model={"list": []}))),
    "a checkpoint whose parts are numbers": (
        "checkpoint.safetensors", lambda: forged(lambda top: numbers(top["parts"]))),
    "a checkpoint whose random states are numbers": (
        "checkpoint.safetensors", lambda: forged(lambda top: numbers(top["random"]))),
    "a checkpoint of lists in lists": (
        "checkpoint.safetensors", lambda: forged(lambda top: top.update(notes={"list": [mutation.deep(300)]}))),
}  # fmt: skip
"""By what they are: each has been seen to hang, to take gigabytes or to end in a traceback."""
