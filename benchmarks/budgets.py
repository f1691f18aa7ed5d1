"""Which budget is best for one solver: LeNet-5 on MNIST at one compression, everything else the same.

    python benchmarks/budgets.py --data MNIST --seeds 0 1 2          # adds rows to results/budgets.json

Of the training images 5,000 are held out: searches over budgets look at the first of those, the rest are trained
on (``--images`` of them). A seed draws the weights and the order of the data; from it one dense network is trained,
and all budgets and both solvers start from that one. Nothing is chosen on the test images, which are looked at once,
at the end of every run, when the model has been cut.
"""

import argparse
import copy
import json
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import nn

from espalier import budgets, data, models
from espalier._ground.types import Masks
from espalier.methods import AutoPrune, Constrained, Pruning, Setting
from espalier.methods._holding import as_if_cut
from espalier.metrics import AdamMoment
from espalier.planning import Plan, plan
from espalier.search import AMC, Random, Sensitivity, Sought, Trying
from espalier.solvers import SLR, Cubic, Gradual
from espalier.tasks import Classification
from espalier.training import Training, build_optimizer, build_scheduler, fit

RESULTS = Path(__file__).parent / "results" / "budgets.json"
HELD_OUT, LOOKED_AT, EVALUATIONS = 5_000, 1_000, 100
COMPRESSION, BATCH = 100.0, 128
NAMES = (
    "uniform", "erk", "global", "shared", "sensitivity", "amc", "random", "autoprune", "shadow",
)  # fmt: skip


def tasks(path: str, images: int, seed: int) -> tuple[Classification, Classification]:
    """What is trained on, with the test images; and the same with those held out in their place."""
    split = data.load("mnist", path)
    whole = split.train
    train = replace(whole, images=whole.images[:-HELD_OUT], labels=whole.labels[:-HELD_OUT])
    held = replace(whole, images=whole.images[-HELD_OUT:], labels=whole.labels[-HELD_OUT:])
    given = {"batch_size": BATCH, "seed": 1000 + seed, "limit_train": images}
    return (
        Classification(train, split.test, **given),
        Classification(train, held, **given, limit_test=LOOKED_AT),
    )


def trained(task: Classification, seed: int, epochs: int) -> nn.Module:
    """The dense start of a seed."""
    torch.manual_seed(seed)
    model = models.build("lenet5")
    training = Training(epochs=epochs, lr=1e-3)
    optimizer = build_optimizer(model.parameters(), training)
    fit(
        model, task, optimizer=optimizer, epochs=epochs, evaluate_every=epochs,
        scheduler=build_scheduler(optimizer, training, task.steps_per_epoch),
    )  # fmt: skip
    return model


def autoprune_counts(model: nn.Module, task: Classification, epochs: int, seed: int) -> Plan:
    """The counts that AutoPrune ends with, under the same budget for the whole network."""
    own, made = (
        copy.deepcopy(model),
        plan(model, compression=COMPRESSION, allocation=budgets.shared),
    )
    training = Training(epochs=epochs, lr=2e-3)
    method = AutoPrune(lr=3, held_out=0.1, cadence=2, settle=0.8)
    on = method.trains_on(task)
    handle = method.attach(
        own,
        made,
        Setting(
            optimizer=lambda groups: build_optimizer(groups, training),
            steps=epochs * on.steps_per_epoch, steps_per_epoch=on.steps_per_epoch, lr=training.lr,
            task=task, seed=seed,
        ),
    )  # fmt: skip
    assert handle.optimizer is not None
    fit(
        own, on, handle, optimizer=handle.optimizer, epochs=epochs, evaluate_every=epochs,
        scheduler=build_scheduler(handle.optimizer, training, on.steps_per_epoch),
    )  # fmt: skip
    handle.hard_prune_()
    keep = {n: max(1, int(own.get_parameter(n).count_nonzero())) for n in made.names}
    return plan(model, keep=keep)


def budget(
    name: str, model: nn.Module, held: Classification, epochs: int, seed: int,
    solver: str,
) -> Plan:  # fmt: skip
    """A plan for the dense start."""

    def worth(masks: Masks) -> float:
        with as_if_cut(dict(model.named_parameters()), masks):
            return held.evaluate(model)["accuracy"] - 1.0

    if name == "autoprune":
        return autoprune_counts(model, held, epochs, seed)
    searches = {
        "sensitivity": Sensitivity(),
        "amc": AMC(episodes=EVALUATIONS, warmup=EVALUATIONS // 3, floor=1e-3, log=True),
        "random": Random(evaluations=EVALUATIONS, floor=1e-3, log=True),
    }
    rules: dict[str, Callable[..., Any]] = {
        "uniform": budgets.uniform, "erk": budgets.erk, "global": budgets.global_magnitude,
        "shared": budgets.shared,
        "shadow": budgets.Shadow(
            rate=0.1, by="multipliers" if solver == "slr" else "energies", start=budgets.erk
        ),
    }  # fmt: skip
    rule = rules.get(name) or Sought(searches[name].steps, Trying(worth=worth, seed=seed))
    return plan(model, compression=COMPRESSION, allocation=rule)


def pruned(
    solver: str,
    made: Plan,
    start: nn.Module,
    task: Classification,
    held: Classification,
    epochs: int,
) -> tuple[float, dict[str, int]]:
    """Test accuracy as cut, and the weights left in each layer."""
    model = copy.deepcopy(start)
    chosen = SLR(rho=30, step=3) if solver == "slr" else Gradual()
    method = Constrained(
        solver=chosen, cadence=5, metric=AdamMoment(), opening=Cubic(until=0.35),
        **({"settle": 0.45, "decoupled": True} if solver == "slr" else {}),
    )  # fmt: skip
    training = Training(epochs=epochs, lr=3e-3)
    optimizer = build_optimizer(model.parameters(), training)
    handle = Pruning(model, made, method, optimizer, steps=epochs * task.steps_per_epoch)
    fit(
        model, held, handle, optimizer=optimizer, epochs=epochs, evaluate_every=epochs,
        scheduler=build_scheduler(optimizer, training, held.steps_per_epoch),
    )  # fmt: skip
    handle.hard_prune_()
    left = {name: int(model.get_parameter(name).count_nonzero()) for name in made.names}
    return task.evaluate(model)["accuracy"], left


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="")
    parser.add_argument("--images", type=int, default=8_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--budgets", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument(
        "--solvers", nargs="+", choices=("slr", "gradual"), default=["slr", "gradual"]
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for seed in given.seeds:
        task, held = tasks(given.data, given.images, seed)
        start = trained(held, seed, given.epochs)
        dense = task.evaluate(start)["accuracy"]
        plans: dict[str, Plan] = {}
        for solver, name in product(given.solvers, given.budgets):
            began = time.perf_counter()
            key = f"{name} {solver}" if name == "shadow" else name
            if key not in plans:
                plans[key] = budget(name, start, held, given.epochs, seed, solver)
            sought = time.perf_counter() - began
            accuracy, left = pruned(solver, plans[key], start, task, held, given.epochs)
            row = {
                "budget": name, "solver": solver, "seed": seed, "accuracy": accuracy, "left": left,
                "weights": sum(left.values()), "dense": dense, "compression": COMPRESSION,
                "epochs": given.epochs, "images": given.images, "budget_seconds": round(sought, 1),
                "seconds": round(time.perf_counter() - began, 1),
            }  # fmt: skip
            said = {"environment": f"torch {torch.__version__}, {platform.machine()}, 1 thread"}
            kept = json.loads(given.out.read_text()) if given.out.exists() else {**said, "rows": []}
            kept["rows"].append(row)
            given.out.write_text(json.dumps(kept, indent=1) + "\n")
            print(seed, name, solver, f"{100 * accuracy:.2f}", left, row["seconds"], flush=True)


if __name__ == "__main__":
    main()
