"""Which layout makes a column-pruned convolution faster, and which only smaller.

    python benchmarks/columns.py columns     # random columns, every layout    } into
    python benchmarks/columns.py boxes       # a box of positions, cropped     } benchmarks/results/columns.json

A column is what one input channel and one kernel position give to all filters. Random columns of one convolution are
set to zero; input channels that lose all of theirs are taken out everywhere, for compaction does that anyway, and the
convolution that is left, zeros in place, is what every layout is compared with. All layouts compute the same (checked),
and take turns in one process, on one thread; times are of the processor, so that a busy machine does not count.

crop        kernel cut to the box of its live positions, padding adjusted: a convolution
gather      live (channel, position) maps copied behind one another, then a 1×1 convolution
unfold      im2col, the live rows selected, then a matrix product
positions   one 1×1 convolution of the live channels for every position, summed
"""

import argparse
import json
import platform
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espalier.export import session, to_onnx
from espalier.measure._latency import latency

LAYERS = {  # inputs, filters, kernel, padding, size of the map
    "LeNet-5 conv1": (1, 20, 5, 0, 28),
    "LeNet-5 conv2": (20, 50, 5, 0, 12),
    "ResNet-20, 16 channels": (16, 16, 3, 1, 32),
    "ResNet-18, 64 channels": (64, 64, 3, 1, 32),
    "ResNet-18, 256 channels": (256, 256, 3, 1, 8),
}
DENSITIES = (0.1, 0.25, 0.5)
BATCHES = (1, 32)


@dataclass(frozen=True)
class Columns:
    """A convolution (O, I, k, k) of stride 1, and which of its columns are not zero (I, k, k)."""

    weight: Tensor
    live: Tensor
    padding: int

    @property
    def box(self) -> tuple[slice, slice]:
        rows, cols = self.live.any(2).any(0).nonzero(), self.live.any(1).any(0).nonzero()
        return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)


class Zeros(nn.Module):
    def __init__(self, columns: Columns) -> None:
        super().__init__()
        self.weight, self.padding = nn.Parameter(columns.weight), columns.padding

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, padding=self.padding)


class Crop(nn.Module):
    def __init__(self, columns: Columns) -> None:
        super().__init__()
        (a, b), k, p = columns.box, columns.live.shape[1], columns.padding
        self.weight = nn.Parameter(columns.weight[:, :, a, b].contiguous())
        self.pad = (p - b.start, p - (k - b.stop), p - a.start, p - (k - a.stop))

    def forward(self, x: Tensor) -> Tensor:
        left, right, top, bottom = self.pad
        if left == right >= 0 and top == bottom >= 0:
            return F.conv2d(x, self.weight, padding=(top, left))
        return F.conv2d(F.pad(x, self.pad), self.weight)


class Gather(nn.Module):
    def __init__(self, columns: Columns) -> None:
        super().__init__()
        live, self.padding, k = columns.live, columns.padding, columns.live.shape[1]
        self.positions = [(a, b) for a, b in product(range(k), repeat=2) if live[:, a, b].any()]
        channels = [live[:, a, b].nonzero().flatten() for a, b in self.positions]
        weight = [
            columns.weight[:, c, a, b] for c, (a, b) in zip(channels, self.positions, strict=True)
        ]
        self.weight = nn.Parameter(torch.cat(weight, 1)[:, :, None, None])
        self.size = k
        self.sizes = [len(c) for c in channels]
        self.full = [len(c) == live.shape[0] for c in channels]
        self.register_buffer("channels", torch.cat(channels))

    def maps(self, x: Tensor) -> list[Tensor]:
        p, k = self.padding, self.size
        x = F.pad(x, (p, p, p, p)) if p else x
        h, w = x.shape[2] - k + 1, x.shape[3] - k + 1
        found = []
        for (a, b), c, full in zip(
            self.positions, self.channels.split(self.sizes), self.full, strict=True
        ):
            part = x[:, :, a : a + h, b : b + w]
            found.append(part if full else part.index_select(1, c))
        return found

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(torch.cat(self.maps(x), 1), self.weight)


class Positions(Gather):
    def forward(self, x: Tensor) -> Tensor:
        total = None
        for part, w in zip(self.maps(x), self.weight.split(self.sizes, 1), strict=True):
            one = F.conv2d(part, w)
            total = one if total is None else total + one
        return total


class Unfold(nn.Module):
    def __init__(self, columns: Columns) -> None:
        super().__init__()
        self.padding, self.size = columns.padding, columns.live.shape[1]
        self.register_buffer("rows", columns.live.flatten().nonzero().flatten())
        self.weight = nn.Parameter(columns.weight.flatten(1)[:, self.rows])

    def forward(self, x: Tensor) -> Tensor:
        h = x.shape[2] + 2 * self.padding - self.size + 1
        rows = F.unfold(x, self.size, padding=self.padding).index_select(1, self.rows)
        return (self.weight @ rows).unflatten(2, (h, -1))


LAYOUTS = {"zeros": Zeros, "crop": Crop, "gather": Gather, "unfold": Unfold, "positions": Positions}


def pruned(layer: str, density: float, generator: torch.Generator) -> tuple[Columns, int]:
    """The convolution on the channels that still have a column, and the columns there were."""
    inputs, filters, k, padding, _ = LAYERS[layer]
    total = inputs * k * k
    live = torch.zeros(total, dtype=torch.bool)
    live[torch.randperm(total, generator=generator)[: max(1, round(density * total))]] = True
    live = live.reshape(inputs, k, k)
    live = live[live.flatten(1).any(1)]
    weight = torch.randn(filters, len(live), k, k, generator=generator) * live
    return Columns(weight, live, padding), total


def onnx(model: nn.Module, x: Tensor) -> Any:
    data = to_onnx(model, x, batch=len(x)).data

    def prepare(inputs: Tensor, threads: int) -> Any:
        run = session(data, threads)
        return lambda: run(inputs)

    return prepare


def boxes(kernel: int) -> list[tuple[int, int, int, int]]:
    """Without one side, two sides, the border; the middle row; the middle."""
    whole, most, inner = slice(0, kernel), slice(0, kernel - 1), slice(1, kernel - 1)
    middle = slice(kernel // 2, kernel // 2 + 1)
    found = [(most, whole), (most, most), (inner, inner), (middle, whole), (middle, middle)]
    return list(dict.fromkeys((a.start, a.stop, b.start, b.stop) for a, b in found))


def boxed(layer: str, box: tuple[int, int, int, int], generator: torch.Generator) -> Columns:
    """The convolution with all columns in a box of positions."""
    inputs, filters, k, padding, _ = LAYERS[layer]
    live = torch.zeros(inputs, k, k, dtype=torch.bool)
    live[:, box[0] : box[1], box[2] : box[3]] = True
    return Columns(torch.randn(filters, inputs, k, k, generator=generator) * live, live, padding)


def timed(
    layer: str, columns: Columns, layouts: dict[str, Any], rounds: int, **said: Any
) -> list[dict[str, Any]]:
    """A row for every batch, runtime and layout."""
    generator = torch.Generator().manual_seed(1)
    size = LAYERS[layer][4]
    models = {name: make(columns).eval() for name, make in layouts.items()}
    if "crop" in models and models["crop"].weight.shape == columns.weight.shape:
        del models["crop"]  # every position is live: it is the convolution itself
    found = []
    for batch in BATCHES:
        x = torch.randn(batch, len(columns.live), size, size, generator=generator)
        with torch.no_grad():
            expected = models["zeros"](x)
            for name, model in models.items():
                torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-3, msg=name)
        runtimes = {"eager": models, "ONNX Runtime": {n: onnx(m, x) for n, m in models.items()}}
        table = latency(
            runtimes, x, batches=[batch], threads=[1], rounds=rounds, clock=time.process_time
        )
        for row in table.rows:
            found.append(
                {
                    "layer": layer, **said, "live": int(columns.live.sum()),
                    "channels": len(columns.live), "batch": batch,
                    "runtime": row.runtime, "layout": row.model,
                    "weights": models[row.model].weight.numel(),
                    "microseconds": round(1e6 * row.seconds.median, 1),
                    "speedup": round(row.speedup.median, 3),
                    "speedup_quartiles": [round(row.speedup.low, 3), round(row.speedup.high, 3)],
                }
            )  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["columns", "boxes"])
    parser.add_argument("--layers", nargs="+", choices=LAYERS, default=list(LAYERS))
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/columns.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    found: list[dict[str, Any]] = []
    for layer in arguments.layers:
        kernel = LAYERS[layer][2]
        layouts = {name: LAYOUTS[name] for name in arguments.layouts}
        if arguments.part == "boxes":
            two = {name: LAYOUTS[name] for name in ("zeros", "crop")}
            for box in boxes(kernel):
                found += timed(layer, boxed(layer, box, generator), two, arguments.rounds, box=box)
        else:
            for density in DENSITIES:
                columns, total = pruned(layer, density, generator)
                said = {"density": density, "total": total}
                found += timed(layer, columns, layouts, arguments.rounds, **said)
        save(arguments, found)
        print(layer, flush=True)


def save(arguments: argparse.Namespace, found: list[dict[str, Any]]) -> None:
    """After every layer, beside what the other part has written."""
    result = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    result["environment"] = {
        "torch": torch.__version__, "python": platform.python_version(),
        "processor": platform.machine(), "threads": 1, "rounds": arguments.rounds,
    }  # fmt: skip
    others = [row for row in result.get(arguments.part, []) if row["layer"] not in arguments.layers]
    result[arguments.part] = [*others, *found]
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
