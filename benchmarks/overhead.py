"""What a solver costs a training step: time against the dense step, and memory.

    python benchmarks/overhead.py            # writes benchmarks/results/overhead.json

Dense and pruning steps alternate in blocks of one cadence in one process, each on its own copy of the model, so
that the machine is the same for both. A block holds exactly one update. Reported: the ratio of the medians of the
block times, and the quartiles of the ratios of neighbouring blocks. Times are of the processor (one thread), so that a
busy machine does not count.
"""

import argparse
import copy
import json
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import espalier as esp
from espalier import models

BATCH, CADENCE = 128, 50


def optimizer_of(name: str, model: nn.Module) -> torch.optim.Optimizer:
    if name == "lenet5":
        return torch.optim.Adam(model.parameters(), lr=1e-3)
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)


def block(
    model: nn.Module, optimizer: Any, x: Any, y: Any, steps: int, pruning: Any = None
) -> float:
    start = time.process_time()
    for _ in range(steps):
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        if pruning:
            pruning.add_gradients_()
        optimizer.step()
        optimizer.zero_grad()
        if pruning:
            pruning.step(loss)
    return time.process_time() - start


def state_bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(map(state_bytes, value.values()))
    return 0


def measure(
    name: str, shape: tuple[int, ...], blocks: int, solver: esp.solvers.Solver
) -> dict[str, Any]:
    torch.manual_seed(0)
    dense = models.build(name)
    sparse = copy.deepcopy(dense)
    x, y = torch.randn(BATCH, *shape), torch.randint(0, 10, (BATCH,))
    dense_optimizer, optimizer = optimizer_of(name, dense), optimizer_of(name, sparse)
    pruning = esp.Pruning(sparse, esp.plan(sparse, density=0.1), solver, optimizer)
    times: dict[str, list[float]] = {"dense": [], "solver": []}
    for index in range(blocks + 1):
        pair = {
            "dense": lambda: block(dense, dense_optimizer, x, y, CADENCE),
            "solver": lambda: block(sparse, optimizer, x, y, CADENCE, pruning),
        }
        for kind in ("dense", "solver") if index % 2 else ("solver", "dense"):
            seconds = pair[kind]()
            if index:  # the first pair warms up
                times[kind].append(seconds)
    ratios = sorted(b / a for a, b in zip(times["dense"], times["solver"], strict=True))
    weights = sum(sparse.get_parameter(n).numel() * 4 for n in pruning.plan.names)
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--blocks", type=int, default=11)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    cases = (
        ("lenet5", (1, 28, 28), esp.SLR),
        ("lenet5", (1, 28, 28), esp.ADMM),
        ("resnet20", (3, 32, 32), esp.SLR),
    )
    for name, shape, solver in cases:
        blocks = options.blocks if name == "lenet5" else max(2, options.blocks // 3)
        rows.append(measure(name, shape, blocks, solver(cadence=CADENCE)))
        print(rows[-1], flush=True)
    environment = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": 1,
    }
    environment["processor"] = platform.processor() or platform.machine()
    out = Path(__file__).parent / "results" / "overhead.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(
        json.dumps({"seed": 0, "environment": environment, "rows": rows}, indent=1) + "\n"
    )
