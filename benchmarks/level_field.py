"""The level field: every method from the same weights, on the same batches, for the same epochs.

    python benchmarks/level_field.py pretrain --data DATA --seeds 0 1 2
    python benchmarks/level_field.py run GRID --data DATA --workers 2     # appends to results/level_field.jsonl
    python benchmarks/level_field.py table

A grid is a file of ``benchmarks/grids``: one JSON object a line, a setting a key. One run is one thread; runs that
are already in the results are not repeated. Training is under bfloat16 autocast; every evaluation is float32.
"""

import argparse
import hashlib
import json
import multiprocessing
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

import espalier as esp
from espalier import models
from espalier.data import load_mnist
from espalier.tasks import Classification

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "level_field.jsonl"
CACHE = Path.home() / ".cache" / "espalier-benchmarks"

KEEP = {
    "71.2x": {"conv1.weight": 100, "conv2.weight": 2000, "fc1.weight": 3600, "fc2.weight": 350},
    "85.2x": {"conv1.weight": 100, "conv2.weight": 2000, "fc1.weight": 2600, "fc2.weight": 350},
    "300x": {"conv1.weight": 60, "conv2.weight": 560, "fc1.weight": 650, "fc2.weight": 160},
}

CENTRE: dict[str, Any] = {
    "method": "slr", "keep": "85.2x", "epochs": 12, "batch": 128, "lr": 1e-3, "schedule": "cosine", "seed": 0,
    "cadence": 20, "rho": 0.1, "step": 0.01, "M": 300.0, "r": 0.1, "printed": False,
    "until": None, "settle": None, "metric": "identity", "decoupled": False, "retrain": 0, "smoothing": 0.0,
    "warmup": 0.0, "allocation": "fixed",
}  # fmt: skip


def settings(overrides: dict[str, Any]) -> dict[str, Any]:
    unknown = set(overrides) - set(CENTRE)
    if unknown:
        sys.exit(f"unknown settings {sorted(unknown)}; allowed: {sorted(CENTRE)}")
    return {**CENTRE, **overrides}


def solver(c: dict[str, Any], steps_per_epoch: int) -> esp.solvers.Solver:
    metrics = {
        "identity": esp.Identity,
        "adam": esp.AdamMoment,
        "fisher": esp.Fisher,
        "activations": esp.Activations,
    }
    common = {
        "cadence": steps_per_epoch if c["cadence"] == "epoch" else c["cadence"],
        "continuation": esp.Cubic(c["until"]) if c["until"] else esp.Constant(),
        "settle": c["settle"],
        "metric": metrics[c["metric"]](),
        "decoupled": c["decoupled"],
    }
    match c["method"]:
        case "slr":
            return esp.SLR(
                rho=c["rho"],
                step=c["step"],
                M=c["M"],
                r=c["r"],
                printed_steps=c["printed"],
                **common,
            )
        case "admm":
            return esp.ADMM(rho=c["rho"], **common)
        case "penalty":
            return esp.Penalty(rho=c["rho"], **common)
        case "gradual":
            return esp.Gradual(**common)
        case "oneshot":
            return esp.OneShot(**common)
    sys.exit(f"unknown method {c['method']}")


def task(data: str, seed: int, batch: int, smoothing: float = 0.0) -> Classification:
    split = load_mnist(data)
    return Classification(
        split.train,
        split.test,
        batch_size=batch,
        seed=seed,
        test_batch_size=1000,
        label_smoothing=smoothing,
    )


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


def cosine(optimizer: Any, steps: int, warmup: float, schedule: str) -> Any:
    import math

    def factor(step: int) -> float:
        x = step / steps
        if x < warmup:
            return (step + 1) / (warmup * steps)
        if schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (x - warmup) / (1 - warmup)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def pretrained(seed: int) -> Path:
    return CACHE / f"lenet5-mnist-{seed}.safetensors"


def pretrain(data: str, seed: int, epochs: int = 20) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    job, model = task(data, seed, 128), models.lenet5()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=0.0)
    scheduler = cosine(optimizer, epochs * job.steps_per_epoch, 0.05, "cosine")
    model = model.to(memory_format=torch.channels_last)
    for epoch in range(epochs):
        train_epoch(model, job, epoch, optimizer, scheduler)
    accuracy = job.evaluate(model)["accuracy"]
    CACHE.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, pretrained(seed))
    print(f"pretrained seed {seed}: {accuracy:.4f}", flush=True)


def run(data: str, c: dict[str, Any]) -> dict[str, Any]:
    torch.set_num_threads(1)
    torch.manual_seed(c["seed"])
    started = time.time()
    job, model = task(data, 1000 + c["seed"], c["batch"], c["smoothing"]), models.lenet5()
    model.load_state_dict(load_file(pretrained(c["seed"])))
    model = model.to(memory_format=torch.channels_last)
    plan = esp.plan(model, keep=KEEP[c["keep"]])
    steps = c["epochs"] * job.steps_per_epoch
    optimizer = torch.optim.Adam(model.parameters(), lr=c["lr"])
    scheduler = cosine(optimizer, steps, c["warmup"], c["schedule"])
    pruning = esp.Pruning(model, plan, solver(c, job.steps_per_epoch), optimizer, steps)
    curve: dict[str, Any] = {}
    for epoch in range(c["epochs"]):
        train_epoch(model, job, epoch, optimizer, scheduler, pruning)
        done = epoch + 1
        if done <= 4 or done % 2 == 0 or done == c["epochs"]:
            with pruning.hard_pruned():
                curve[str(done)] = round(job.evaluate(model)["accuracy"], 5)
    dense_now = job.evaluate(model)["accuracy"]
    certificate = pruning.certificate()
    pruning.hard_prune_()
    assert plan.contains({n: model.get_parameter(n) for n in plan.names})
    retrained = None
    if c["retrain"]:
        optimizer = torch.optim.Adam(model.parameters(), lr=c["lr"])
        scheduler = cosine(optimizer, c["retrain"] * job.steps_per_epoch, 0.0, "cosine")
        for epoch in range(c["retrain"]):
            train_epoch(model, job, c["epochs"] + epoch, optimizer, scheduler, pruning)
        retrained = round(job.evaluate(model)["accuracy"], 5)
    return {
        "settings": c, "hard_pruned": curve[str(c["epochs"])], "curve": curve, "dense_now": round(dense_now, 5),
        "retrained": retrained, "violation": round(certificate.total_violation, 5),
        "conditions": certificate.conditions, "s": certificate.s, "outcome": certificate.outcome.value,
        "seconds": round(time.time() - started, 1), "torch": torch.__version__, "machine": platform.processor() or platform.machine(),
    }  # fmt: skip


def key(c: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(c, sort_keys=True).encode()).hexdigest()[:12]


def results() -> list[dict[str, Any]]:
    return (
        [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    )


def job_of(args: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    try:
        return run(*args)
    except Exception as error:  # one diverged run must not end the sweep
        return {"settings": args[1], "error": f"{type(error).__name__}: {error}"}


def sweep(data: str, grid: Path, workers: int, seeds: list[int]) -> None:
    lines = [
        json.loads(line)
        for line in grid.read_text().splitlines()
        if line.strip() and line[0] != "#"
    ]
    todo = [
        settings({**line, "seed": seed})
        for line in lines
        for seed in ([line["seed"]] if "seed" in line else seeds)
    ]
    done = {key(r["settings"]) for r in results()}
    todo = [c for c in todo if key(c) not in done]
    RESULTS.parent.mkdir(exist_ok=True)
    print(f"{len(todo)} runs", flush=True)
    with multiprocessing.get_context("spawn").Pool(workers, maxtasksperchild=1) as pool:
        for result in pool.imap_unordered(job_of, [(data, c) for c in todo]):
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
    groups: dict[str, list[dict[str, Any]]] = {}
    for r in results():
        if "error" not in r:
            c = {k: v for k, v in r["settings"].items() if k != "seed" and v != CENTRE[k]}
            groups.setdefault(json.dumps(c), []).append(r)
    for name, rows in sorted(
        groups.items(), key=lambda item: -statistics.median(r["hard_pruned"] for r in item[1])
    ):
        values = [r["hard_pruned"] * 100 for r in rows]
        print(
            f"{statistics.median(values):6.2f}  {min(values):6.2f}..{max(values):6.2f}  n={len(values)}  {name}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("pretrain", "run"):
        sub = commands.add_parser(name)
        sub.add_argument("--data", required=True, help="folder of the MNIST IDX files")
        sub.add_argument("--seeds", type=int, nargs="+", default=[0])
        sub.add_argument("--workers", type=int, default=2)
        if name == "run":
            sub.add_argument("grid", type=Path)
    commands.add_parser("table")
    options = parser.parse_args()
    if options.command == "pretrain":
        with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
            pool.starmap(pretrain, [(options.data, seed) for seed in options.seeds])
    elif options.command == "run":
        sweep(options.data, options.grid, options.workers, options.seeds)
    else:
        table()
