"""What a solver costs a training step: time against the dense step, and memory.

    python benchmarks/overhead.py            # writes benchmarks/results/overhead.json
    python benchmarks/overhead.py --attached # writes benchmarks/results/overhead_attached.json

Dense and pruning steps alternate in blocks of one cadence in one process, each on its own copy of the model, so
that the machine is the same for both. A block holds exactly one update; a step is the training loop's own. Reported:
the ratio of the medians of the block times, and the quartiles of the ratios of neighbouring blocks. Times are of the
processor (one thread), so that a busy machine does not count.

``--attached`` measures a handle on the hooks of the optimiser, on ResNet-20 and on a transformer of 110 million
parameters. Dense steps, steps with the explicit calls and attached ones alternate on one model with one optimiser;
one update is added by its share, 1 / cadence. Besides the ratio of the medians there is that of the parts: the time
spent in the hooks and the update, measured in the same steps, over that of the dense ones, which noise hardly touches.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

import espalier as esp
from espalier import models
from espalier._ground.environment import hardware, versions
from espalier.data import ImageSet
from espalier.tasks import Classification
from espalier.training import Training, build_optimizer, train_step

BATCH, CADENCE = 128, 50
RULES = {"lenet5": Training(epochs=1), "resnet20": Training(epochs=1, lr=0.01, optimizer="sgd")}
SHAPES = {"lenet5": (1, 28, 28), "resnet20": (3, 32, 32)}


def one_batch(shape: tuple[int, ...]) -> Classification:
    """A task of a single batch of noise."""
    noise = ImageSet(
        images=torch.randn(BATCH, *shape),
        labels=torch.randint(0, 10, (BATCH,)),
        classes=tuple("0123456789"),
        mean=(0.0,) * shape[0],
        std=(1.0,) * shape[0],
    )
    return Classification(noise, noise, batch_size=BATCH, seed=0)


def stepper(
    model: nn.Module, task: Classification, optimizer: Any, pruning: Any = None
) -> Callable[[], float]:
    """Makes one block of steps; the processor seconds that it took."""
    batch = next(task.batches(0))

    def block() -> float:
        start = time.process_time()
        for _ in range(CADENCE):
            train_step(model, task, batch, optimizer, pruning)
        return time.process_time() - start

    return block


def state_bytes(value: Any) -> int:
    """Of all tensors in it."""
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(map(state_bytes, value.values()))
    return 0


def measure(name: str, blocks: int, solver: esp.solvers.Solver) -> dict[str, Any]:
    """One row: a solver on a network, at density 0.1."""
    torch.manual_seed(0)
    dense = models.build(name)
    sparse = copy.deepcopy(dense)
    task = one_batch(SHAPES[name])
    optimizer = build_optimizer(sparse.parameters(), RULES[name])
    plan = esp.plan(sparse, density=0.1)
    pruning = esp.Pruning(sparse, plan, solver, optimizer, cadence=CADENCE)
    run = {
        "dense": stepper(dense, task, build_optimizer(dense.parameters(), RULES[name])),
        "solver": stepper(sparse, task, optimizer, pruning),
    }
    times: dict[str, list[float]] = {"dense": [], "solver": []}
    for index in range(blocks + 1):
        for kind in ("dense", "solver") if index % 2 else ("solver", "dense"):
            seconds = run[kind]()
            if index:  # the first pair warms up
                times[kind].append(seconds)
    ratios = sorted(b / a for a, b in zip(times["dense"], times["solver"], strict=True))
    weights = sum(sparse.get_parameter(n).numel() * 4 for n in plan.names)
    return {
        "model": name,
        "solver": type(solver).__name__,
        "batch": BATCH,
        "cadence": CADENCE,
        "blocks": blocks,
        "ratio": round(statistics.median(times["solver"]) / statistics.median(times["dense"]), 4),
        "ratio_quartiles": [round(q, 4) for q in statistics.quantiles(ratios, n=4)],
        "dense_step_ms": round(1e3 * statistics.median(times["dense"]) / CADENCE, 3),
        "memory_copies_of_pruned_weights": round(state_bytes(pruning.state_dict()) / weights, 3),
    }


def rows_of(blocks: int) -> Iterator[dict[str, Any]]:
    """With the calls of the training loop."""
    for name, solver in (("lenet5", esp.SLR), ("lenet5", esp.ADMM), ("resnet20", esp.SLR)):
        yield measure(name, blocks if name == "lenet5" else max(2, blocks // 3), solver())


class Block(nn.Module):
    """A layer of a decoder, before its norms."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, d = x.shape
        q, k, v = self.qkv(self.first(x)).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(b, t, d))
        return x + self.down(nn.functional.gelu(self.up(self.second(x))))


class Decoder(nn.Module):
    """GPT-2's sizes, with 32,000 words: 110 million parameters, of which 85 million are pruned."""

    def __init__(self, width: int = 768, layers: int = 12, words: int = 32_000) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.blocks = nn.Sequential(*(Block(width, 12) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.norm(self.blocks(self.words(tokens))) @ self.words.weight.T


def resident(key: str) -> int:
    """Bytes of this process: ``VmRSS`` now, ``VmHWM`` at most since it was last asked to forget."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))


def attached(
    name: str, model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor], optimizer: Any,
    rounds: int, cadence: int = 20,
) -> dict[str, Any]:  # fmt: skip
    """One row: SLR at density 0.1 by the hooks of the optimiser."""
    inputs, targets = batch
    plan = esp.plan(model, density=0.1)
    pruning = esp.Pruning(model, plan, esp.SLR(), optimizer, cadence=10**9, advise=False)
    clock: dict[str, list[float]] = {k: [] for k in ("dense", "calls", "attached", "hooks")}
    marks: list[float] = []

    def mark(*_: Any) -> None:
        marks.append(time.process_time())

    def step(kind: str) -> None:
        hooks = []
        if kind == "attached":  # marks before and after the hooks on either side of the step
            hooks += [
                optimizer.register_step_pre_hook(mark),
                optimizer.register_step_post_hook(mark),
            ]
            pruning.attach(optimizer, loss=lambda: loss)
            hooks += [
                optimizer.register_step_pre_hook(mark),
                optimizer.register_step_post_hook(mark),
            ]
        start = time.process_time()
        optimizer.zero_grad()
        out = model(inputs)
        loss = nn.functional.cross_entropy(out.flatten(0, -2), targets.flatten())
        loss.backward()
        if kind == "calls":
            pruning.add_gradients_()
        optimizer.step()
        if kind == "calls":
            pruning.step(loss)
        clock[kind].append(time.process_time() - start)
        if kind == "attached":
            clock["hooks"].append(marks[1] - marks[0] + marks[3] - marks[2])
            marks.clear()
            pruning.detach()
        for hook in hooks:
            hook.remove()

    updates, peaks = [], []
    for index in range(rounds + 1):
        for kind in ("dense", "calls", "attached"):
            step(kind)
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        start = time.process_time()
        pruning._update()
        updates.append(time.process_time() - start)
        peaks.append(resident("VmHWM") - before)
        times = {**{k: round(v[-1], 4) for k, v in clock.items()}, "update": round(updates[-1], 4)}
        print(name, index, times, flush=True)
    weights = sum(model.get_parameter(n).numel() * 4 for n in plan.names)
    middle = {kind: statistics.median(times[1:]) for kind, times in clock.items()}
    share = statistics.median(updates[1:]) / cadence
    return {
        "model": name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "pruned_weights": weights // 4,
        "samples": list(inputs.shape),
        "solver": "SLR",
        "optimizer": type(optimizer).__name__,
        "cadence": cadence,
        "rounds": rounds,
        "ratio_attached": round((middle["attached"] + share) / middle["dense"], 4),
        "ratio_calls": round((middle["calls"] + share) / middle["dense"], 4),
        "ratio_of_parts": round(1 + (middle["hooks"] + share) / middle["dense"], 4),
        "dense_step_ms": round(1e3 * middle["dense"], 2),
        "hooks_ms": round(1e3 * middle["hooks"], 2),
        "update_ms": round(1e3 * statistics.median(updates[1:]), 2),
        "memory_copies_of_pruned_weights": round(state_bytes(pruning.state_dict()) / weights, 3),
        "update_peak_copies": round(statistics.median(peaks[1:]) / weights, 2),
    }


def attached_rows(rounds: int) -> Iterator[dict[str, Any]]:
    """ResNet-20 and the transformer, the latter with few and with many words a step."""
    torch.manual_seed(0)
    net = models.build("resnet20")
    images = torch.randn(BATCH, 3, 32, 32), torch.randint(0, 10, (BATCH,))
    rule = RULES["resnet20"]
    yield attached("resnet20", net, images, build_optimizer(net.parameters(), rule), 4 * rounds)
    for size in ((4, 128), (8, 256)):
        decoder = Decoder()
        words = torch.randint(0, 32_000, size)
        adam = torch.optim.AdamW(decoder.parameters(), lr=1e-4)
        yield attached("decoder", decoder, (words, words), adam, rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--blocks", type=int, default=11)
    parser.add_argument("--attached", action="store_true")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    usual = "overhead_attached.json" if options.attached else "overhead.json"
    out = options.out or Path(__file__).parent / "results" / usual
    found = {"seed": 0, "versions": versions("espalier", "torch"), "hardware": hardware()}
    rows = []
    for row in attached_rows(options.rounds) if options.attached else rows_of(options.blocks):
        rows.append(row)
        print(row, flush=True)
        out.write_text(json.dumps({**found, "rows": rows}, indent=1) + "\n")
