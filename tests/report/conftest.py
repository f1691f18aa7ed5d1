"""Synthetic run folders with the values a real run has."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from espalier.report import write_report

SHAPES = {
    "conv1.weight": (20, 1, 5, 5),
    "conv2.weight": (50, 20, 5, 5),
    "fc1.weight": (500, 800),
    "fc2.weight": (10, 500),
}
KEEP = {"conv1.weight": 100, "conv2.weight": 2000, "fc1.weight": 2600, "fc2.weight": 350}
ENDS = {"slr": 0.9901, "admm": 0.9862, "gradual": 0.9893, "oneshot": 0.196}
STEPS = 469


def dump(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


def weights(seed: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Dense weights with some structure, and the same cut to their keep."""
    generator = torch.Generator().manual_seed(seed)
    before, after = {}, {}
    for name, shape in SHAPES.items():
        rows = torch.rand(shape[0], generator=generator).mul(1.6).exp()
        inputs = torch.rand(math.prod(shape[1:]), generator=generator).mul(2.2).exp()
        noise = torch.randn(shape[0], math.prod(shape[1:]), generator=generator)
        w = (0.02 * rows[:, None] * inputs * noise).reshape(shape)
        top = w.abs().flatten().topk(KEEP[name]).indices
        mask = torch.zeros(w.numel(), dtype=torch.bool).index_fill_(0, top, True)
        before[name], after[name] = w, 1.3 * w * mask.reshape(shape)
    return before, after


def events(method: str, seed: int, epochs: int, cadence: int, retrain: int, end: float) -> list:
    noise = torch.Generator().manual_seed(1000 * len(method) + seed)

    def jitter(scale: float) -> float:
        return scale * float(torch.randn((), generator=noise))

    told: list[dict[str, Any]] = [
        {"event": "phase", "phase": "prune", "epochs": epochs, "steps": epochs * STEPS}
    ]
    seconds, s = 0.0, 0.01
    for epoch in range(1, epochs + 1):
        done = epoch / epochs
        cut = 1 - (1 - end) - (end - 0.196) * math.exp(-9 * done) + jitter(0.0006)
        cut = 0.196 + jitter(0.01) if method == "oneshot" else min(cut, 0.9935)
        accuracy = 0.9938 - 0.004 * math.sin(math.pi * done) + jitter(0.0004)
        seconds += 9.1
        told.append(
            {
                "event": "epoch", "phase": "prune", "epoch": epoch, "step": epoch * STEPS,
                "loss": 0.012 + 0.05 * math.exp(-4 * done) + abs(jitter(0.001)), "lr": 1e-3,
                "seconds": 9.1, "time": seconds, "metrics": {"accuracy": accuracy, "loss": 0.02},
                "hard_pruned": {"accuracy": cut, "loss": 1 - cut}, "hard_pruned_bn": None,
            }
        )  # fmt: skip
        if method in ("gradual", "oneshot"):
            continue
        for step in range((epoch - 1) * STEPS + cadence, epoch * STEPS, cadence):
            done = step / (epochs * STEPS)
            met = float(torch.rand((), generator=noise)) > 0.06 + 0.35 * done
            s *= 0.996 if met else 1.0
            layers = {}
            for i, name in enumerate(SHAPES):
                fall = math.exp(-(4.5 + i) * done + jitter(0.08))
                layers[name] = {
                    "violation": (5 + 3 * i) * fall, "z_change": (2 + i) * fall**1.3,
                    "multiplier_change": s * (5 + 3 * i) * fall, "weight": 7.0 + 3 * i,
                }  # fmt: skip
            told.append(
                {
                    "event": "update", "step": step, "k": step // cadence, "s": s, "rho": 0.1,
                    "slack": max(0.0, 1 - 2 * done), "loss": 0.02, "layers": layers,
                    "condition_3": met if method == "slr" else None,
                    "condition_8": (step // cadence) % 41 != 0 if method == "slr" else None,
                }
            )  # fmt: skip
    if retrain:
        told.append({"event": "phase", "phase": "retrain", "epochs": retrain, "steps": 938})
    for epoch in range(1, retrain + 1):
        accuracy = end + (0.9921 - end) * (1 - math.exp(-epoch)) + jitter(0.0003)
        told.append(
            {"event": "epoch", "phase": "retrain", "epoch": epoch, "loss": 0.02 / epoch,
             "metrics": {"accuracy": accuracy}, "hard_pruned": None, "hard_pruned_bn": None}
        )  # fmt: skip
    return told


def write_run(
    folder: Path, method: str = "slr", seed: int = 0, *, epochs: int = 8, cadence: int = 20,
    retrain: int = 3, rho: float = 0.1, end: float | None = None, model: str = "lenet5",
    finished: bool = True, tensors: bool = True, bn: bool = False,
) -> Path:  # fmt: skip
    folder.mkdir(parents=True)
    end = ENDS[method] + 0.0006 * math.sin(7.0 * seed) if end is None else end
    told = events(method, seed, epochs, cadence, retrain, end)
    if bn:
        for event in told:
            if event.get("hard_pruned"):
                cut = event["hard_pruned"]["accuracy"]
                event["hard_pruned_bn"] = {"accuracy": cut + 0.5 * (0.993 - cut)}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in told))
    solver = {"method": method} if method == "oneshot" else {"method": method, "rho": rho}
    recipe = {
        "model": {"name": model}, "data": {"name": "mnist"}, "solver": solver,
        "plan": {"keep": KEEP, "set": "unstructured"}, "training": {"epochs": epochs, "seed": seed},
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    dump(
        folder / "config.json",
        {
            "format": "espalier-run", "version": 1,
            "recipe": recipe, "seed": seed, "versions": {"espalier": "0.1.0", "torch": "2.6.0"},
            "hardware": {"processor": "8 cores"}, "git_commit": "1b8b81d0aa11",
            "arguments": ["prune", "lenet5.yaml", "--set", f"training.seed={seed}"],
        },
    )  # fmt: skip
    rows = {
        n: {"shape": list(SHAPES[n]), "set": "unstructured", "keep": k} for n, k in KEEP.items()
    }
    (folder / "plan.yaml").write_text(yaml.safe_dump({"espalier_plan": 1, "parameters": rows}))
    if tensors:
        before, after = weights(seed)
        save_file(before, folder / "before.safetensors")
        save_file(after, folder / "weights.safetensors")
    if finished:
        layers = {
            n: {"total": math.prod(s), "nonzero": KEEP[n], "density": KEEP[n] / math.prod(s)}
            for n, s in SHAPES.items()
        }
        totals = {"all_nonbias": 430500, "conv_fc_weights": 430500, "conv_only": 25500,
                  "pruned_layers_only": 430500, "all_params": 431080}  # fmt: skip
        left = {"all_nonbias": 5050, "conv_fc_weights": 5050, "conv_only": 2100,
                "pruned_layers_only": 5050, "all_params": 5630}  # fmt: skip
        dump(
            folder / "result.json",
            {
                "outcome": "converged" if method == "slr" else "budget_spent",
                "sentence": "Every layer is within 1 % of its set and the point no longer moves.",
                "dense": {"accuracy": 0.9939, "loss": 0.02}, "hard_pruned": {"accuracy": end},
                "hard_pruned_bn": {"accuracy": end + 0.5 * (0.993 - end)} if bn else None,
                "retrained": {"accuracy": 0.9921} if retrain else None,
                "counts": {c: {"total": t, "nonzero": left[c], "compression": t / left[c]}
                           for c, t in totals.items()},
                "layers": layers, "certificate": {},
                "epochs": {"prune": epochs, "retrain": retrain},
                "seconds": {"prune": 9.1 * epochs, "retrain": 8.0 * retrain},
                "step_seconds": {"dense": 0.0181, "solver": 0.0186 + 1e-4 * seed},
            },
        )  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def one_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of one whole run."""
    folder = tmp_path_factory.mktemp("one")
    return write_report([write_run(folder / "run", bn=True)], folder / "report.html")


@pytest.fixture(scope="session")
def methods_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of three methods, two seeds each."""
    folder = tmp_path_factory.mktemp("methods")
    pairs = [(method, seed) for method in ("slr", "admm", "oneshot") for seed in (0, 1)]
    runs = [write_run(folder / f"{m}-{s}", m, s, epochs=4, cadence=60) for m, s in pairs]
    return write_report(runs, folder / "report.html")


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes a run folder under a fresh path; arguments as ``write_run``'s."""
    made = iter(range(10_000))

    def make(method: str = "slr", seed: int = 0, **options: Any) -> Path:
        name = options.pop("name", f"{method}-{seed}-{next(made)}")
        return write_run(
            tmp_path / "runs" / name, method, seed, **{"epochs": 3, "cadence": 60} | options
        )

    return make
