"""What a solver costs a training step: time against the dense step, and memory.

    python benchmarks/overhead.py            # writes benchmarks/results/overhead.json

Dense and pruning steps alternate in blocks of one cadence in one process, each on its own copy of the model, so
that the machine is the same for both. A block holds exactly one update; a step is the training loop's own. Reported:
the ratio of the medians of the block times, and the quartiles of the ratios of neighbouring blocks. Times are of the
processor (one thread), so that a busy machine does not count.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--blocks", type=int, default=11)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/overhead.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name, solver in (("lenet5", esp.SLR), ("lenet5", esp.ADMM), ("resnet20", esp.SLR)):
        blocks = options.blocks if name == "lenet5" else max(2, options.blocks // 3)
        rows.append(measure(name, blocks, solver()))
        print(rows[-1], flush=True)
    found = {"seed": 0, "versions": versions("espalier", "torch"), "hardware": hardware()}
    options.out.write_text(json.dumps({**found, "rows": rows}, indent=1) + "\n")
