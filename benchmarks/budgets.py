"""Which budget is best for one solver: LeNet-5 on MNIST at one compression, everything else the same.

    python benchmarks/budgets.py --data MNIST --seeds 0 1 2          # adds rows to results/budgets.json
    python benchmarks/budgets.py --table                             # the table of those rows

Of the training images 5,000 are held out: searches over budgets look at the first of those, the rest are trained
on (``--images`` of them). A seed draws the weights and the order of the data; from it one dense network is trained,
and all budgets and both solvers start from that one. Nothing is chosen on the test images, which are looked at once,
at the end of every run, when the model has been cut.
"""

import argparse
import copy
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from markup import markdown
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
NAMES = {
    "uniform": "uniform", "erk": "ERK", "global": "global magnitude, once", "shared": "shared, live",
    "sensitivity": "sensitivity scan", "amc": "AMC", "random": "random search", "autoprune": "AutoPrune's densities",
    "shadow": "shadow prices",
}  # fmt: skip


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


def table() -> str:
    """One row a budget: the weights of each layer, and the accuracy as cut by each solver over the seeds."""
    rows = json.loads(RESULTS.read_text())["rows"]
    heads = ["budget", "conv1 / conv2 / fc1 / fc2 left (seed 0, SLR)", "looks at images"]
    for word in ("SLR", "gradual"):
        heads += [f"{word}, %: median (range)", f"{word}, minus uniform: mean (range)"]
    of = {(r["budget"], r["solver"], r["seed"]): r for r in rows}
    seeds = sorted({r["seed"] for r in rows})
    lines = []
    for name, title in NAMES.items():
        first = of.get((name, "slr", seeds[0]))
        if first is None:
            continue
        line = [title, " / ".join(f"{n:,}" for n in first["left"].values()), _looked(name)]
        for solver in ("slr", "gradual"):
            own = [100 * of[name, solver, s]["accuracy"] for s in seeds if (name, solver, s) in of]
            less = [
                100 * (of[name, solver, s]["accuracy"] - of["uniform", solver, s]["accuracy"])
                for s in seeds
                if (name, solver, s) in of and ("uniform", solver, s) in of
            ]
            line.append(
                f"{statistics.median(own):.2f} ({min(own):.2f}–{max(own):.2f})" if own else "–"
            )
            line.append(
                f"{statistics.mean(less):+.2f} ({min(less):+.2f} to {max(less):+.2f})"
                if less
                else "–"
            )
        lines.append(line)
    return markdown(heads, lines)


def _looked(name: str) -> str:
    if name in ("amc", "random"):
        return f"{EVALUATIONS} × {LOOKED_AT:,}"
    if name == "sensitivity":
        return f"41 × {LOOKED_AT:,}"
    return "a training of its own" if name == "autoprune" else "–"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="")
    parser.add_argument("--images", type=int, default=8_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--budgets", nargs="+", choices=list(NAMES), default=list(NAMES))
    parser.add_argument(
        "--solvers", nargs="+", choices=("slr", "gradual"), default=["slr", "gradual"]
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    if given.table:
        print(table())
        return
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
