"""Every reader with files that it reads, and the ways in which each kind of file is made wrong."""

import gzip
import io
import json
import random
import struct
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import load, save

import espalier as esp
from artifact.nets import Net, compacted, forge, split, write
from espalier import artifact, models, packing
from espalier._ground import tree as trees
from espalier.data._cifar10 import RECORD, read_batch
from espalier.data._folder import read_image
from espalier.data._mnist import read_idx
from espalier.packing import _record as record
from espalier.packing._positions import Spread
from espalier.packing._values import DTYPES
from espalier.planning import Plan
from espalier.recipe._building import make_training
from espalier.recipe._recipe import load as load_recipe
from espalier.report._runs import read_run
from espalier.runs import RunFolder
from espalier.runs._state import RunState
from espalier.sets import Filters
from espalier.training._checkpoint import Parts, Saver, read_checkpoint, restore_
from espalier.training._place import Progress
from fuzz import mutation
from training.problem import Points, network, plan_for, prune_run

Mutator = Callable[[random.Random, bytes], bytes]
RECIPES = Path(__file__).parents[2] / "recipes"


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One reader.

    Attributes:
        name: What a file of its lies under in the folder it is read from.
        seeds: Files that it reads.
        read: Reads one; only errors of :mod:`espalier.errors` may come out.
        mutators: Ways to make one wrong that know its structure.
    """

    name: str
    seeds: tuple[bytes, ...]
    read: Callable[[Path], Any]
    mutators: tuple[Mutator, ...] = field(default=())

    def case(self, rng: random.Random) -> bytes:
        """A file that nobody wrote."""
        seed, other = rng.choice(self.seeds), rng.choice(self.seeds)
        if self.mutators and rng.random() < 0.65:
            return rng.choice(self.mutators)(rng, seed)
        return mutation.content(rng, seed, other)


def as_json(tree: Any) -> bytes:
    return json.dumps(tree).encode()


def json_tree(rng: random.Random, seed: bytes) -> bytes:
    return as_json(mutation.tree(rng, json.loads(seed)))


def json_line(rng: random.Random, seed: bytes) -> bytes:
    lines = seed.splitlines()
    at = rng.randrange(len(lines))
    lines[at] = as_json(mutation.tree(rng, json.loads(lines[at])))
    return b"\n".join(lines) + b"\n"


def yaml_tree(rng: random.Random, seed: bytes) -> bytes:
    tree = mutation.tree(rng, yaml.safe_load(seed))
    return yaml.safe_dump(tree, sort_keys=False).encode("utf-8", "surrogatepass")


def yaml_text(rng: random.Random, seed: bytes) -> bytes:
    return mutation.yaml_text(rng, seed.decode()).encode()


# ---- plans and recipes --------------------------------------------------------------------------


def plan_seeds() -> tuple[bytes, ...]:
    torch.manual_seed(0)
    small = models.build("lenet5")
    image = torch.zeros(1, 1, 28, 28)
    made = (
        esp.plan(small, density=0.1, example_input=image),
        esp.plan(small, density=0.5, set=Filters(), example_input=image),
        esp.plan(small, macs=0.5, allocation=esp.budgets.shared, example_input=image),
        esp.plan(small, density=0.5, set={"c*": Filters(), "fc*": esp.sets.NOfM(2, 4)}, bits=2, example_input=image),
    )  # fmt: skip
    return tuple(yaml.safe_dump(plan.to_dict(), sort_keys=False).encode() for plan in made)


def read_recipe(path: Path) -> None:
    recipe, _ = load_recipe(path)
    make_training(recipe, recipe.training)
    recipe.settings()


# ---- safetensors: weights, artefacts, checkpoints -----------------------------------------------


def weights_seeds() -> tuple[bytes, ...]:
    net = network()
    return (
        save(net.state_dict()),
        save({k: v.clone().half() for k, v in net.state_dict().items()}),
    )


def header_tree(rng: random.Random, seed: bytes) -> bytes:
    start = 8 + int.from_bytes(seed[:8], "little")
    text = as_json(mutation.tree(rng, json.loads(seed[8:start])))
    return len(text).to_bytes(8, "little") + text + seed[start:]


def artifact_seeds() -> tuple[bytes, ...]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.espalier"
        artifact.save(path, compacted()[1], metrics={"accuracy": 0.5})
        compact = path.read_bytes()
        net = Net()
        plan = esp.plan(net, density=0.5, set=Filters(), example_input=torch.zeros(1, 3, 6, 6))
        artifact.save(path, net, plan=plan)
        return compact, path.read_bytes()


def document_tree(rng: random.Random, seed: bytes) -> bytes:
    """What the document says, with checksums that are right."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        path.write_bytes(seed)
        header, document, data = split(path)
        content = mutation.tree(rng, document["content"])
        try:
            forge(path, header, content if isinstance(content, dict) else {}, data)
        except ValueError:  # NaN has no place in it
            write(path, header, data)
        return path.read_bytes()


def read_artifact(path: Path) -> None:
    artifact.inspect(path)
    artifact.load(path, Net)
    artifact.expand(path, Net)


def parts() -> Parts:
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    method = esp.Constrained(solver=esp.SLR(), cadence=1, settle=None)
    pruning = esp.Pruning(net, plan_for(net), method, optimizer, steps=32)
    return Parts(model=net, optimizer=optimizer, scheduler=None, pruning=pruning)


def checkpoint_seeds() -> tuple[bytes, ...]:
    made = parts()
    task = Points()
    assert made.pruning is not None
    for batch in task.batches(0):
        made.optimizer.zero_grad()
        loss = task.loss(made.model, batch)
        loss.backward()
        made.pruning.add_gradients_()
        made.optimizer.step()
        made.pruning.step(loss.detach())
    with tempfile.TemporaryDirectory() as folder, RunFolder(f"{folder}/run") as run:
        run.write_config({})
        RunState().note(run.notes)
        Saver(run, made, None, 30.0).save(Progress(phase="prune", steps_per_epoch=8, epoch=1))
        return ((run / "checkpoint.safetensors").read_bytes(),)


def resigned(
    seed: bytes, change: Callable[[Any], Any], tensors: dict[str, torch.Tensor] | None = None
) -> bytes:
    """A checkpoint that says something else, perhaps of other tensors, with a checksum that is right."""
    start = 8 + int.from_bytes(seed[:8], "little")
    found = json.loads(seed[8:start])["__metadata__"]
    structure = json.dumps(change(json.loads(found["structure"])))
    own = {**load(seed), **(tensors or {})}
    signed = {**found, "structure": structure, "sha256": trees._checksum(structure, own)}
    return save(own, signed)


def structure_tree(rng: random.Random, seed: bytes) -> bytes:
    """What a checkpoint says, with a checksum that is right."""
    odd = rng.choice((torch.zeros(0), torch.ones(3, 3), torch.zeros(7, dtype=torch.int64)))
    tensors = {rng.choice(sorted(load(seed))): odd} if rng.random() < 0.3 else {}
    return resigned(seed, lambda structure: mutation.tree(rng, structure), tensors)


def read_checkpoint_file(path: Path) -> None:
    journal: Any = _Journal(path.parent)
    tree, _ = read_checkpoint(journal) or (None, "")
    restore_(journal, parts(), tree, 8)
    RunState.from_notes(journal.notes)


class _Journal(SimpleNamespace):
    """A run folder that is only read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path=path, notes={}, identity={})

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def rewind(self, count: int, seconds: float) -> None:
        [None][:count]
        seconds + 1.0


# ---- packed -------------------------------------------------------------------------------------


def packed_seeds() -> tuple[bytes, ...]:
    g = torch.Generator().manual_seed(0)
    sparse = torch.randn(40, 60, generator=g) * (torch.rand(40, 60, generator=g) < 0.1)
    levels = torch.randint(-2, 3, (30, 3, 3, 3), generator=g).float() * 0.5
    tensors = {
        "sparse": sparse, "levels": levels, "dense": torch.randn(10, 10, generator=g), "same": sparse,
        "mask": torch.rand(500, generator=g) < 0.5, "zero": torch.zeros(64), "empty": torch.zeros(0, 3),
        "rare": torch.zeros(4000).index_fill_(0, torch.arange(0, 4000, 997), 1.0), "n": torch.tensor(3),
    }  # fmt: skip
    made = packing._container.to_bytes(tensors)[0]
    with_coder, packing._container.available = packing._container.available, lambda: False
    try:
        return made, packing._container.to_bytes(tensors)[0]
    finally:
        packing._container.available = with_coder


def _packed(body: bytes) -> bytes:
    return b"esp\x01" + zlib.crc32(body).to_bytes(4, "little") + body


def packed_records(rng: random.Random, seed: bytes) -> bytes:
    """Numbers of the header at their extremes, with a checksum that is right."""
    records, length = record.from_header(seed[8:])
    at = rng.randrange(len(records))
    old = records[at]
    counts = [n for n in mutation.EXTREMES if n >= 0]
    new = replace(
        old,
        **rng.choice(
            (
                {"shape": tuple(rng.choice(counts) for _ in range(rng.randrange(4)))},
                {"shape": (rng.choice((2**20, 2**24, 2**26)),), "nonzero": rng.choice((0, 5, 2**20))},
                {"shape": (rng.choice((100, 4000, 2**15)), rng.choice((16, 60, 500)))},
                {"nonzero": rng.choice(counts)}, {"padding": rng.choice(counts)},
                {"gap_bits": rng.randrange(18)}, {"size": rng.choice(counts)},
                {"original": rng.randrange(12)}, {"dtype": rng.choice(DTYPES)},
                {"code": rng.choice(list(record.Code))}, {"kind": rng.choice(list(record.Kind))},
                {"coded": not old.coded}, {"spread": Spread(rng.randrange(16), rng.randrange(16))},
            )
        ),
    )  # fmt: skip
    many = [new] * rng.choice((1, 1, 1, 2, 1000)) if rng.random() < 0.1 else [new]
    named = [replace(r, name=f"{r.name}{n}") for n, r in enumerate(many)] if len(many) > 1 else many
    header = record.to_header([*records[:at], *named, *records[at + 1 :]])
    return _packed(header + seed[8 + length :])


def packed_body(rng: random.Random, seed: bytes) -> bytes:
    """Anything after the checksum, with a checksum that is right."""
    return _packed(mutation.content(rng, seed[8:], seed))


# ---- images -------------------------------------------------------------------------------------


def idx_seeds() -> tuple[bytes, ...]:
    raw = struct.pack(">4B3I", 0, 0, 8, 3, 5, 28, 28) + random.Random(0).randbytes(5 * 784)
    return raw, gzip.compress(raw, mtime=0)


def idx_sizes(rng: random.Random, seed: bytes) -> bytes:
    raw = gzip.decompress(seed) if seed[:2] == b"\x1f\x8b" else seed
    sizes = [rng.choice((5, 28, *mutation.EXTREMES)) % 2**32 for _ in range(3)]
    long = raw[16:] if rng.random() < 0.8 else bytes(rng.choice((10**6, 3 * 10**7)))
    made = raw[:4] + struct.pack(">3I", *sizes) + long
    return gzip.compress(made, 1, mtime=0) if rng.random() < 0.6 or len(long) > 10**6 else made


def idx_inside(rng: random.Random, seed: bytes) -> bytes:
    raw = gzip.decompress(seed) if seed[:2] == b"\x1f\x8b" else seed
    return gzip.compress(mutation.content(rng, raw, seed), mtime=0)


def image_seeds() -> tuple[bytes, ...]:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 4), np.uint8)
    made = []
    for kind in ("RGB PNG", "P PNG", "LA PNG", "1 PNG", "RGB JPEG", "CMYK JPEG"):
        mode, form = kind.split()
        out = io.BytesIO()
        Image.fromarray(pixels).convert("RGB").convert(mode).save(out, form)
        made.append(out.getvalue())
    return tuple(made)


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def png_of(width: int, height: int, depth: int = 8, kind: int = 0) -> bytes:
    """A PNG of zeros, as short as deflate makes it."""
    row = (width * depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(kind, 1) + 7) // 8 + 1
    deflate = zlib.compressobj(9)
    data = deflate.compress(bytes(min(row * height, 1 << 24))) + deflate.flush()
    head = struct.pack(">2I5B", width % 2**32, height % 2**32, depth, kind, 0, 0, 0)
    return png((b"IHDR", head), (b"IDAT", data), (b"IEND", b""))


def png_sizes(rng: random.Random, seed: bytes) -> bytes:
    sides = (0, 1, 2, 3, 10_000, 60_000, 7000, 2**24, 2**31 - 1, 2**32 - 1)
    return png_of(
        rng.choice(sides), rng.choice(sides), rng.choice((1, 8, 16)), rng.choice((0, 2, 3, 4, 6))
    )


def png_chunks(rng: random.Random, seed: bytes) -> bytes:
    """Chunks with their checksums right."""
    if not seed.startswith(b"\x89PNG"):
        return mutation.content(rng, seed, seed)
    at, chunks = 8, []
    while at < len(seed):
        length = struct.unpack(">I", seed[at : at + 4])[0]
        chunks.append((seed[at + 4 : at + 8], seed[at + 8 : at + 8 + length]))
        at += 12 + length
    number = rng.randrange(len(chunks))
    name, data = chunks[number]
    if rng.random() < 0.2:
        name = rng.choice(
            (
                b"iCCP",
                b"zTXt",
                b"iTXt",
                b"tRNS",
                b"PLTE",
                b"gAMA",
                b"eXIf",
                b"acTL",
                b"fcTL",
                b"fdAT",
            )
        )
    chunks[number] = name, mutation.content(rng, data, seed) if data else b"\0" * 13
    return png(*chunks)


# ---- all of them --------------------------------------------------------------------------------


@cache
def run_seeds() -> dict[str, bytes]:
    """The files of a finished run."""
    with tempfile.TemporaryDirectory() as folder:
        net = network()
        method = esp.Constrained(solver=esp.SLR(), cadence=4, settle=None)
        run = Path(folder) / "run"
        prune_run(net, Points(), plan_for(net), method, folder=run, **_standard())
        return {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}


def _standard() -> dict[str, Any]:
    from espalier.training import Training

    return {
        "config": {"recipe": {"model": "x", "training": {"seed": 3}}, "seed": 3},
        "prune": Training(epochs=2),
    }


def read_whole_run(path: Path) -> None:
    for name, content in run_seeds().items():
        if name != path.name and name in (
            "config.json",
            "result.json",
            "metrics.jsonl",
            "plan.yaml",
        ):
            (path.parent / name).write_bytes(content)
    run = read_run(path.parent)
    _ = run.label, run.method, run.model, run.data, run.overhead, run.final("hard_pruned"), run.seed


TEXT = (yaml_tree, yaml_tree, yaml_text)
READERS: dict[str, Callable[[str], Reader]] = {
    "plan.yaml": lambda name: Reader(name=name, seeds=plan_seeds(), read=Plan.load, mutators=TEXT),
    "recipe.yaml": lambda name: Reader(
        name=name,
        seeds=tuple(sorted(path.read_bytes() for path in RECIPES.glob("*.yaml"))),
        read=read_recipe,
        mutators=TEXT,
    ),
    "net.espalier": lambda name: Reader(
        name=name,
        seeds=artifact_seeds(),
        read=read_artifact,
        mutators=(document_tree, document_tree, header_tree),
    ),
    "checkpoint.safetensors": lambda name: Reader(
        name=name,
        seeds=checkpoint_seeds(),
        read=read_checkpoint_file,
        mutators=(structure_tree, structure_tree, header_tree),
    ),
    "weights.safetensors": lambda name: Reader(
        name=name,
        seeds=weights_seeds(),
        read=lambda path: models.load_weights(network(), path),
        mutators=(header_tree,),
    ),
    "net.packed": lambda name: Reader(
        name=name,
        seeds=packed_seeds(),
        read=packing.unpack,
        mutators=(packed_records, packed_records, packed_body),
    ),
    "config.json": lambda name: of_run(name, json_tree),
    "result.json": lambda name: of_run(name, json_tree),
    "metrics.jsonl": lambda name: of_run(name, json_line),
    "images.idx": lambda name: Reader(
        name=name,
        seeds=idx_seeds(),
        read=lambda path: read_idx(path, 3),
        mutators=(idx_sizes, idx_inside),
    ),
    "batch.bin": lambda name: Reader(
        name=name,
        seeds=((bytes([3]) + random.Random(1).randbytes(RECORD - 1)) * 2,),
        read=lambda path: read_batch(path, 2),
    ),
    "image.png": lambda name: Reader(
        name=name,
        seeds=image_seeds(),
        read=lambda path: read_image(path),
        mutators=(png_chunks, png_chunks, png_sizes),
    ),
}
"""Every reader, by what its files are called."""


def of_run(name: str, mutator: Mutator) -> Reader:
    """A file of a run folder, the others beside it."""
    return Reader(name=name, seeds=(run_seeds()[name],), read=read_whole_run, mutators=(mutator,))


@cache
def reader(name: str) -> Reader:
    """A reader with its files, which are made now."""
    return READERS[name](name)
