"""Which widths a runtime uses well: ResNet-56 at about half its multiply-accumulates, in ONNX Runtime.

    python benchmarks/widths.py            # writes benchmarks/results/widths.json

The same architecture in several widths, weights random, every model in turn in one process, one thread.
"""

import copy
import json
import platform
from pathlib import Path
from typing import Any

import torch

import espalier as esp
from espalier import models, sets
from espalier.measure import layer_costs
from espalier.measure._latency import latency
from espalier.solvers import OneShot

RESULT = Path(__file__).parent / "results" / "widths.json"


def inner(first: int, second: int, third: int) -> dict[str, int]:
    widths = zip((1, 2, 3), (first, second, third), strict=True)
    return {f"layer{stage}.*.conv1.weight": width for stage, width in widths}


BUDGETS: dict[str, dict[str, Any]] = {
    "one fraction of every group": {"macs": 0.5},
    "multiples of 4": {"macs": 0.5, "multiple": 4},
    "multiples of 8": {"macs": 0.5, "multiple": 8},
    "inner 8, 16, 32": {"keep": inner(8, 16, 32)},
    "inner 16, 16, 32": {"keep": inner(16, 16, 32)},
    "inner 8, 16, 32 and 16": {"keep": {"layer3.[3-6].conv1.weight": 16, **inner(8, 16, 32)}},
}


def main() -> None:
    from espalier.export._runtimes import in_onnx_runtime

    torch.set_num_threads(1)
    example = torch.randn(2, 3, 32, 32)
    dense = models.build("resnet56").eval()
    contestants, macs = (
        {"dense": in_onnx_runtime(dense, example)},
        {"dense": layer_costs(dense, example).total},
    )
    for name, budget in BUDGETS.items():
        model = copy.deepcopy(dense)
        plan = esp.plan(model, set=sets.Filters(), example_input=example, **budget)
        esp.Pruning(model, plan, OneShot()).hard_prune_()
        small = esp.compact(model, example, zero_constants=True).model
        contestants[name], macs[name] = (
            in_onnx_runtime(small, example),
            layer_costs(small, example).total,
        )
    table = latency({"": contestants}, example, batches=(1, 32), threads=(1,), rounds=15, turn=0.05)
    rows = [
        {
            "widths": row.model,
            "macs": macs[row.model] / macs["dense"],
            "batch": row.batch,
            "seconds": row.seconds.median,
            "speedup": [row.speedup.low, row.speedup.median, row.speedup.high],
        }
        for row in table.rows
    ]
    versions = {"torch": torch.__version__, "machine": platform.machine()}
    RESULT.write_text(json.dumps({"rows": rows, "versions": versions}, indent=1) + "\n")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
