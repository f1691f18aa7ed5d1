"""Small models with zeros in them, and files written by a stranger."""

import hashlib
import json

import torch
import torch.nn.functional as F
from torch import nn

from espalier._ground.safetensors import TensorInfo
from espalier.artifact import _document as document
from espalier.artifact._container import KEY
from espalier.compaction import AttributeEdit, Compact, Edits, Size, SliceEdit, apply_edits, compare


class Net(nn.Module):
    """Residual, depthwise, a constant channel to fold, a buffer, and a size held as a number."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.wide = nn.Conv2d(8, 12, 1)
        self.deep = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.norm = nn.BatchNorm2d(12)
        self.thin = nn.Conv2d(12, 8, 1, bias=False)
        self.width = 8
        self.head = nn.Linear(8, 5)
        self.register_buffer("scale", torch.tensor(2.0))
        self.register_buffer("scratch", torch.ones(8), persistent=False)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.thin(F.relu6(self.norm(self.deep(F.silu(self.wide(x))))))
        pooled = x.mean((2, 3)).view(-1, self.width) * self.scratch
        return self.head(pooled) * self.scale


class Tied(nn.Module):
    """An embedding and a head that are one tensor."""

    def __init__(self, tie=True):
        super().__init__()
        self.table = nn.Embedding(11, 6)
        self.inner = nn.Linear(6, 6)
        self.head = nn.Linear(6, 11, bias=False)
        if tie:
            self.head.weight = self.table.weight

    def forward(self, x):
        return self.head(F.relu(self.inner(self.table(x))))


def pruned():
    """A trained-looking ``Net`` with filters gone in two coupled groups."""
    torch.manual_seed(0)
    net = Net()
    with torch.no_grad():
        for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
            if name.endswith("running_var") or "norm.weight" in name:
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point() and tensor.ndim == 1 and name != "scratch":
                tensor.normal_(0, 0.5)
        net.norm.num_batches_tracked.fill_(41)
        dead = torch.tensor([1, 4, 5, 9])
        for tensor in (net.wide.weight, net.wide.bias, net.deep.weight, net.deep.bias):
            tensor[dead] = 0
        net.norm.weight[dead], net.norm.bias[dead] = 0, 0
        for tensor in (net.stem[0].weight, net.stem[0].bias, net.stem[1].weight, net.stem[1].bias):
            tensor[[2, 3]] = 0
        net.thin.weight[[2, 3]] = 0
    return net.eval()


def compacted():
    """The masked net and the compact one, by edits written out: cheap, and with every kind of edit."""
    net = pruned()
    inner, outer = (0, 2, 3, 6, 7, 8, 10, 11), (0, 1, 4, 5, 6, 7)
    norm = ("weight", "bias", "running_mean", "running_var")
    cuts = [("wide.weight", 0, inner), ("wide.bias", 0, inner), ("thin.weight", 1, inner)]
    cuts += [("deep.weight", 0, inner), ("deep.bias", 0, inner)]
    cuts += [(f"norm.{name}", 0, inner) for name in norm]
    cuts += [(f"stem.1.{name}", 0, outer) for name in norm]
    cuts += [("stem.0.weight", 0, outer), ("stem.0.bias", 0, outer), ("wide.weight", 1, outer)]
    cuts += [("thin.weight", 0, outer), ("head.weight", 1, outer), ("scratch", 0, outer)]
    slices = tuple(
        SliceEdit(name=name, axis=axis, size=12 if keep is inner else 8, keep=keep)
        for name, axis, keep in cuts
    )
    width = AttributeEdit(module="", name="width", before=8, after=6)
    edits = Edits(slices=slices, attributes=(width,))
    small = apply_edits(net, edits)
    return net, Compact(
        model=small,
        edits=edits,
        proof=compare(net, small, torch.randn(2, 3, 6, 6), tolerance=1e-5),
        before=Size.of(net),
        after=Size.of(small),
        removed=6,
        kept_back={},
        constant=0,
    )


def bits(tensor):
    """The tensor as integers, so that NaN equals NaN and 0.0 is not −0.0."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def split(path):
    """The header as JSON, the document as JSON, and the data."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    return header, json.loads(header["__metadata__"][KEY]), raw[start:]


def write(path, header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def forge(path, header, content, data, version=1):
    """An artefact whose checksums are right, whatever it says."""
    entries = {name: e for name, e in header.items() if name != "__metadata__"}
    infos = {
        name: TensorInfo(
            dtype=e["dtype"],
            shape=tuple(e["shape"]),
            begin=e["data_offsets"][0],
            end=e["data_offsets"][1],
        )
        for name, e in entries.items()
    }
    content = content | {"weights_sha256": hashlib.sha256(data).hexdigest()}
    sha256 = document._checksum(content, infos)
    text = json.dumps({"version": version, "sha256": sha256, "content": content})
    write(path, {"__metadata__": {KEY: text}, **entries}, data)
