"""The level field: every method from the same weights, on the same batches, for the same epochs.

    python benchmarks/level_field.py pretrain --data MNIST --seeds 0 1 2
    python benchmarks/level_field.py run benchmarks/grids/NAME.jsonl --data FOLDER [--weights FILE]
    python benchmarks/level_field.py table

A grid is one JSON object a line: the settings in which a run differs from the CENTRE of its problem. Runs are
appended to ``results/level_field.jsonl``; what is already there is not run again. One run is one thread, and several
run side by side. Training is under bfloat16 autocast, every evaluation in float32.
"""

import argparse
import json
import math
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

import espalier as esp
from espalier import budgets, data, models, solvers
from espalier.data import _augment as augment
from espalier.tasks import Classification

RESULTS = Path(__file__).parent / "results" / "level_field.jsonl"
CACHE = Path(os.environ.get("ESPALIER_CACHE", Path.home() / ".cache" / "espalier-benchmarks"))

CENTRE: dict[str, Any] = {
    "problem": "lenet5-mnist", "keep": "85.2x", "method": "slr", "seed": 0,
    "epochs": 12, "batch": 128, "lr": 1e-3, "schedule": "cosine", "warmup": 0.0, "retrain": 0,
    "cadence": 20, "rho": 0.1, "step": 0.01, "M": 300.0, "r": 0.1, "printed": False,
    "until": None, "settle": None, "metric": "identity", "decoupled": False,
}  # fmt: skip

LENET5_KEEP = {
    "71.2x": {"conv1.weight": 100, "conv2.weight": 2000, "fc1.weight": 3600, "fc2.weight": 350},
    "85.2x": {"conv1.weight": 100, "conv2.weight": 2000, "fc1.weight": 2600, "fc2.weight": 350},
    "300x": {"conv1.weight": 60, "conv2.weight": 560, "fc1.weight": 650, "fc2.weight": 160},
}
SOLVERS = {
    "slr": esp.SLR, "admm": esp.ADMM, "penalty": esp.Penalty,
    "gradual": esp.Gradual, "oneshot": esp.OneShot, "slr-released": solvers.SLRReleased,
}  # fmt: skip
METRICS = {
    "identity": esp.Identity, "adam": esp.AdamMoment, "fisher": esp.Fisher, "activations": esp.Activations,
}  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """A network, its data, its pretrained weights and its budgets."""

    model: Callable[[], torch.nn.Module]
    split: Callable[[str], data.Split]
    plan: Callable[[torch.nn.Module, str], esp.Plan]
    optimizer: Callable[..., torch.optim.Optimizer]
    augment: Any = None


def lenet5_plan(model: torch.nn.Module, keep: str) -> esp.Plan:
    if keep in LENET5_KEEP:
        return esp.plan(model, keep=LENET5_KEEP[keep])
    # "300x-shared": one budget of as many weights, shared by the layers as the solver finds best
    total = sum(LENET5_KEEP[keep.removesuffix("-shared")].values())
    return esp.plan(model, density=total / 430_500, allocation=budgets.shared)


def resnet20_plan(model: torch.nn.Module, keep: str) -> esp.Plan:
    """All 3×3 convolutions but the first, one density; ``keep`` names the compression of the whole model.

    Counted as the SLR papers do: every weight but the biases, unpruned layers included.
    """
    total = sum(p.numel() for n, p in model.named_parameters() if "bias" not in n)
    pool = sum(
        p.numel() for n, p in model.named_parameters() if n.startswith("layer") and p.dim() == 4
    )
    kept = total / float(keep.removesuffix("x")) - (total - pool)
    return esp.plan(model, density=kept / pool, include=["layer*.conv*.weight"])


PROBLEMS = {
    "lenet5-mnist": Problem(
        model=models.lenet5,
        split=partial(data.load, "mnist"),
        plan=lenet5_plan,
        optimizer=torch.optim.Adam,
    ),
    "resnet20-cifar10": Problem(
        model=partial(models.build, "resnet20"),
        split=partial(data.load, "cifar10", normalise="imagenet"),
        plan=resnet20_plan,
        optimizer=torch.optim.Adam,
        augment=augment.crop_flip,
    ),
}


def settings(overrides: dict[str, Any]) -> dict[str, Any]:
    if unknown := set(overrides) - set(CENTRE):
        sys.exit(f"unknown settings {sorted(unknown)}; allowed: {sorted(CENTRE)}")
    return {**CENTRE, **overrides}


def solver(c: dict[str, Any], steps_per_epoch: int) -> solvers.Solver:
    own = {
        "slr": {
            "rho": c["rho"],
            "step": c["step"],
            "M": c["M"],
            "r": c["r"],
            "printed_steps": c["printed"],
        },
        "slr-released": {"rho": c["rho"], "step": c["step"], "M": c["M"], "r": c["r"]},
        "admm": {"rho": c["rho"]},
        "penalty": {"rho": c["rho"]},
    }
    cadence = c["cadence"]
    if isinstance(cadence, str):  # "epoch" or "10 epochs"
        cadence = steps_per_epoch * int(cadence.split()[0] if " " in cadence else 1)
    return SOLVERS[c["method"]](
        cadence=cadence,
        continuation=esp.Cubic(c["until"]) if c["until"] else esp.Constant(),
        settle=c["settle"],
        metric=METRICS[c["metric"]](),
        decoupled=c["decoupled"],
        **own.get(c["method"], {}),
    )


def task(problem: Problem, path: str, c: dict[str, Any]) -> Classification:
    split = problem.split(path)
    return Classification(
        split.train, split.test, batch_size=c["batch"], seed=1000 + c["seed"], augment=problem.augment,
        test_batch_size=1000,
    )  # fmt: skip


def schedule(optimizer: Any, steps: int, c: dict[str, Any]) -> torch.optim.lr_scheduler.LambdaLR:
    def factor(step: int) -> float:
        progress, warmup = step / steps, c["warmup"]
        if progress < warmup:
            return (step + 1) / (warmup * steps)
        if c["schedule"] == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def train_epoch(
    model: Any, job: Classification, epoch: int, optimizer: Any, scheduler: Any, pruning: Any = None
) -> None:
    model.train()
    for batch in job.batches(epoch):
        images = batch.images.to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            loss = job.loss(model, batch._replace(images=images))
        loss.backward()
        if pruning:
            pruning.add_gradients_()
        optimizer.step()
        optimizer.zero_grad()
        if pruning:
            pruning.step(loss)
        scheduler.step()


def pretrained(seed: int) -> Path:
    return CACHE / f"lenet5-mnist-{seed}.safetensors"


def pretrain(path: str, seed: int) -> None:
    """LeNet-5 from scratch: 20 epochs of Adam, 5 % warm-up, cosine."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    c = settings({"seed": seed, "warmup": 0.05})
    problem = PROBLEMS["lenet5-mnist"]
    job, model = task(problem, path, c), problem.model().to(memory_format=torch.channels_last)
    optimizer = problem.optimizer(model.parameters(), lr=1e-3)
    scheduler = schedule(optimizer, 20 * job.steps_per_epoch, c)
    for epoch in range(20):
        train_epoch(model, job, epoch, optimizer, scheduler)
    CACHE.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, pretrained(seed))
    print(f"pretrained seed {seed}: {job.evaluate(model)['accuracy']:.4f}", flush=True)


def run(path: str, weights: str | None, c: dict[str, Any]) -> dict[str, Any]:
    torch.set_num_threads(1)
    torch.manual_seed(c["seed"])
    started = time.time()
    problem = PROBLEMS[c["problem"]]
    job, model = task(problem, path, c), problem.model()
    model.load_state_dict(load_file(weights or pretrained(c["seed"])), strict=False)
    model = model.to(memory_format=torch.channels_last)
    dense = job.evaluate(model)["accuracy"]
    plan = problem.plan(model, c["keep"])
    steps = c["epochs"] * job.steps_per_epoch
    optimizer = problem.optimizer(model.parameters(), lr=c["lr"])
    scheduler = schedule(optimizer, steps, c)
    pruning = esp.Pruning(model, plan, solver(c, job.steps_per_epoch), optimizer, steps)
    curve = {}
    for epoch in range(c["epochs"]):
        train_epoch(model, job, epoch, optimizer, scheduler, pruning)
        done = epoch + 1
        if done <= 4 or done % 2 == 0 or done == c["epochs"]:
            with pruning.hard_pruned():
                curve[str(done)] = round(job.evaluate(model)["accuracy"], 5)
    certificate = pruning.certificate()
    dense_now = job.evaluate(model)["accuracy"]
    pruning.hard_prune_()
    assert plan.contains({n: model.get_parameter(n) for n in plan.names})
    kept = {n: int(model.get_parameter(n).count_nonzero()) for n in plan.names}
    retrained = None
    if c["retrain"]:
        optimizer = problem.optimizer(model.parameters(), lr=c["lr"])
        scheduler = schedule(optimizer, c["retrain"] * job.steps_per_epoch, c)
        for epoch in range(c["retrain"]):
            train_epoch(model, job, c["epochs"] + epoch, optimizer, scheduler, pruning)
        retrained = round(job.evaluate(model)["accuracy"], 5)
    return {
        "settings": c, "dense": round(dense, 5), "hard_pruned": curve[str(c["epochs"])], "curve": curve,
        "dense_now": round(dense_now, 5), "retrained": retrained, "kept": kept,
        "violation": round(certificate.total_violation, 5), "conditions": certificate.conditions,
        "s": certificate.s, "outcome": certificate.outcome.value, "seconds": round(time.time() - started, 1),
        "torch": torch.__version__, "machine": processor(),
    }  # fmt: skip


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def results() -> list[dict[str, Any]]:
    """What has been run, each with every setting (those added since at their centre)."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    found = [json.loads(line) for line in lines]
    return [{**r, "settings": settings(r["settings"])} for r in found if "error" not in r]


def attempt(path: str, weights: str | None, c: dict[str, Any]) -> dict[str, Any]:
    try:
        return run(path, weights, c)
    except Exception as error:  # one diverged run must not end the sweep
        return {"settings": c, "error": f"{type(error).__name__}: {error}"}


def sweep(grid: Path, path: str, weights: str | None, workers: int, seeds: list[int]) -> None:
    lines = [json.loads(line) for line in grid.read_text().splitlines() if line.startswith("{")]
    todo = [settings({"seed": seed, **line}) for line in lines for seed in seeds]
    done = [r["settings"] for r in results()]
    todo = [c for i, c in enumerate(todo) if c not in done and c not in todo[:i]]
    RESULTS.parent.mkdir(exist_ok=True)
    print(f"{len(todo)} runs", flush=True)
    with multiprocessing.get_context("spawn").Pool(workers, maxtasksperchild=1) as pool:
        for result in pool.imap_unordered(partial(attempt, path, weights), todo):
            with RESULTS.open("a") as file:
                file.write(json.dumps(result) + "\n")
            changed = {k: v for k, v in result["settings"].items() if v != CENTRE[k]}
            print(
                result.get("hard_pruned"),
                result.get("retrained"),
                result.get("error", ""),
                changed,
                flush=True,
            )


def table() -> None:
    """Median, range and number of seeds of every setting, best first."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for r in results():
        c = {k: v for k, v in r["settings"].items() if k != "seed" and v != CENTRE[k]}
        groups.setdefault(json.dumps(c), []).append(r)
    rows = []
    for name, runs in groups.items():
        values = sorted(100 * r["hard_pruned"] for r in runs)
        again = [100 * r["retrained"] for r in runs if r["retrained"] is not None]
        retrained = f"{statistics.median(again):6.2f}" if again else "      "
        rows.append((statistics.median(values), values, retrained, name))
    for median, values, retrained, name in sorted(rows, reverse=True):
        print(
            f"{median:6.2f}  {values[0]:6.2f}..{values[-1]:6.2f}  n={len(values)}  {retrained}  {name}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("pretrain", "run"):
        sub = commands.add_parser(name)
        sub.add_argument("--data", required=True, help="folder of the data set")
        sub.add_argument("--seeds", type=int, nargs="+", default=[0])
        sub.add_argument("--workers", type=int, default=2)
        if name == "run":
            sub.add_argument("grid", type=Path)
            sub.add_argument(
                "--weights", help="pretrained safetensors (LeNet-5: those of `pretrain`)"
            )
    commands.add_parser("table")
    options = parser.parse_args()
    if options.command == "pretrain":
        with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
            pool.starmap(pretrain, [(options.data, seed) for seed in options.seeds])
    elif options.command == "run":
        sweep(options.grid, options.data, options.weights, options.workers, options.seeds)
    else:
        table()
