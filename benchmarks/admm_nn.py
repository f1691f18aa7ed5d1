"""ADMM-NN's figures on LeNet-5/MNIST: prune to a budget of bits, retrain, put on levels, pack.

    export ESPALIER_DATA=FOLDER                            # holds mnist/
    python benchmarks/admm_nn.py choose slr gradual        # budgets and bits, judged on held-out training images
    python benchmarks/admm_nn.py final slr --seeds 1 2 3 4 5

``choose`` trains on 18,000 images and looks at 2,000 others of the training set, at every budget and every
number of bits; ``final`` trains on all and looks at the test images once, at the budget and the bits that it
is told. Every run that has ended is a row of ``results/packed.json``; one that was stopped goes on in its
folder. All start from the dense weights of ``fields/lenet5-300x.yaml``.
"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from field import content_of, fast, started
from field_pages import field_of
from torch import Tensor, nn

import espalier as esp
from espalier import models
from espalier._ground.environment import hardware, versions
from espalier.methods import KeepZeros
from espalier.packing import pack
from espalier.recipe import validate
from espalier.recipe._building import make_model, make_task
from espalier.runs import Planned, RunOptions, Stage, run_stages
from espalier.sets import Shared, Unstructured
from espalier.solvers import Cubic
from espalier.training import Training, show_progress

RESULTS = Path(__file__).parent / "results" / "packed.json"

COSTS = {
    "conv1.weight": 7, "conv1.bias": 6, "conv2.weight": 10, "conv2.bias": 6,
    "fc1.weight": 14, "fc1.bias": 9, "fc2.weight": 10, "fc2.bias": 4,
}  # fmt: skip
"""Bits a nonzero of each tensor takes in a file, position and three bits of value: one budget in bits for all."""

PRUNE = Training(epochs=7, lr=3e-3, autocast=True, evaluate_every=7)
RETRAIN = Training(epochs=3, lr=1e-3, autocast=True, evaluate_every=3)
COMMON: dict[str, Any] = {"cadence": 20, "metric": esp.metrics.AdamMoment()}
METHODS = {
    "slr": esp.Constrained(
        solver=esp.SLR(rho=30, step=3),
        decoupled=True,
        opening=Cubic(until=0.5),
        settle=0.6,
        **COMMON,
    ),
    "gradual": esp.Constrained(solver=esp.Gradual(), opening=Cubic(until=0.6), **COMMON),
}
BITS = (3, 4, 5, 6)


def plan(model: nn.Module, limit: int) -> esp.Plan:
    """One budget of bits, shared by weights and biases."""
    return esp.plan(
        model, density=0.5, include=list(COSTS),
        allocation=lambda layers, _: Shared(Unstructured(), {n: COSTS[n] for n in layers}, limit),
    )  # fmt: skip


def stages(method: str, limit: int) -> list[Stage]:
    """Training onto the budget and the cut, then training with the zeros held."""
    planned = Planned(lambda model: plan(model, limit), settings={"limit": limit, "costs": COSTS})
    return [
        Stage(
            name="prune", training=PRUNE, method=METHODS[method], aim=planned, cut=True,
            figure="hard_pruned",
        ),
        Stage(name="retrain", training=RETRAIN, method=KeepZeros(), figure="retrained"),
    ]  # fmt: skip


def trained(
    method: str, limit: int, seed: int, *, choosing: bool, out: Path
) -> list[dict[str, Any]]:
    """A row for every number of bits."""
    content = content_of(field_of("lenet5-300x"), "slr", {}, trial=choosing, seed=seed)
    recipe = validate(started(field_of("lenet5-300x"), content, out))
    task = make_task(recipe)
    model = fast(make_model(recipe, task.model_arguments))
    folder = out / "admm_nn" / f"{method}-{limit}-{'validation' if choosing else 'test'}-seed{seed}"
    with show_progress() as on_event:
        run = run_stages(
            model, task, stages(method, limit), folder, seed=seed, resume=True,
            options=RunOptions(on_event=on_event),
        )  # fmt: skip
    weights = {name: w.detach().contiguous() for name, w in run.model.state_dict().items()}
    nonzero = {name: int(w.count_nonzero()) for name, w in weights.items()}
    left = sum(count for name, count in nonzero.items() if name.endswith("weight"))
    result = run.result
    said = {
        "method": method, "limit_bits": limit, "seed": seed, "split": result.split,
        "dense": result.figure("dense"), "pruned": result.figure("retrained"), "nonzero": nonzero,
        "compression": round(430_500 / left, 1), "convention": "conv_fc_weights",
        "epochs": dict(result.epochs), "seconds": dict(result.seconds),
    }  # fmt: skip
    return [{**said, "bits": bits, **_levels(task, weights, bits)} for bits in BITS]


def _levels(task: Any, weights: dict[str, Tensor], bits: int) -> dict[str, Any]:
    """Every tensor on 2^bits levels by projection alone: what that is worth, and the file, headers and all."""
    model = models.lenet5()
    model.load_state_dict(weights)
    target = esp.quantise_plan(model, dict.fromkeys(weights, bits))
    model.load_state_dict(target.project(weights))
    with TemporaryDirectory() as place:
        packing = pack(Path(place) / "packed", model)
    sizes = {
        name: getattr(packing, name)
        for name in ("file_bytes", "data_bits", "index_bits", "header_bits")
    }
    return {"accuracy": task.evaluate(model)["accuracy"], **sizes}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("choose", "final"))
    parser.add_argument("methods", nargs="+", choices=list(METHODS))
    parser.add_argument("--limits", type=int, nargs="+", default=[17_000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/field"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    choosing = given.what == "choose"
    for method in given.methods:
        for limit in given.limits:
            for seed in given.seeds:
                new = trained(method, limit, seed, choosing=choosing, out=given.out)
                _keep(new)
                print(
                    *(f"{r['bits']}: {100 * r['accuracy']:.2f} in {r['file_bytes']}" for r in new),
                    flush=True,
                )


def _keep(new: list[dict[str, Any]]) -> None:
    """Replace the rows of the same run."""
    rows = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    names = ("method", "limit_bits", "seed", "split", "bits")
    held = {tuple(row.get(name) for name in names): row for row in [*rows, *new]}
    found = {
        "costs_bits": COSTS, "rows": list(held.values()),
        "versions": versions("espalier", "torch"), "hardware": hardware(),
    }  # fmt: skip
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
