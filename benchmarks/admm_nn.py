"""ADMM-NN's figures on LeNet-5/MNIST: prune, retrain, quantise, pack.

    python benchmarks/admm_nn.py --data MNIST [--out runs/admm_nn]

The run is one of stages, kept in its folder and taken up where it was when called again; ``results/admm_nn.json`` is
written anew from it. Trained on the first 55,000 training images; accuracy is reported on the last 5,000 and on the
test images, for every number of bits.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import espalier as esp
from espalier import data, models
from espalier._ground.environment import hardware, versions
from espalier.methods import KeepZeros
from espalier.packing import pack
from espalier.runs import Keeping, Planned, Stage, run_stages
from espalier.sets import Shared, Unstructured
from espalier.tasks import Classification
from espalier.training import Training, show_progress

RESULTS = Path(__file__).parent / "results" / "admm_nn.json"

LIMIT = 17_000
COSTS = {
    "conv1.weight": 7, "conv1.bias": 6, "conv2.weight": 10, "conv2.bias": 6,
    "fc1.weight": 14, "fc1.bias": 9, "fc2.weight": 10, "fc2.bias": 4,
}  # fmt: skip
"""Bits a nonzero of each tensor takes in a file, position and three bits of value: one budget in bits for all."""

PHASES = {
    "pretrain": Training(epochs=20, lr=1e-3, warmup=1, autocast=True, evaluate_every=5),
    "prune": Training(epochs=14, lr=3e-3, autocast=True, evaluate_every=7),
    "retrain": Training(epochs=6, lr=1e-3, autocast=True, evaluate_every=6),
}
METHOD = esp.Constrained(
    solver=esp.SLR(rho=30, step=3), cadence=20, metric=esp.metrics.AdamMoment(), decoupled=True
)
BITS = (3, 4, 5, 6)


def tasks(path: str, seed: int) -> dict[str, Classification]:
    """What it learns, judged by the images held back; and the same, judged by the test images."""
    split = data.load("mnist", path)

    def part(chosen: slice) -> data.ImageSet:
        images, labels = split.train.images[chosen], split.train.labels[chosen]
        return replace(split.train, images=images, labels=labels)

    train = part(slice(0, 55_000))
    judged = {"validation": part(slice(55_000, None)), "test": split.test}
    return {
        name: Classification(train, images, batch_size=128, seed=seed)
        for name, images in judged.items()
    }


def plan(model: nn.Module) -> esp.Plan:
    """One budget of bits, shared by weights and biases."""
    return esp.plan(
        model, density=0.5, include=list(COSTS),
        allocation=lambda layers, _: Shared(Unstructured(), {n: COSTS[n] for n in layers}, LIMIT),
    )  # fmt: skip


def stages() -> list[Stage]:
    """From scratch: dense training, SLR onto the budget and the cut, training with the zeros held."""
    return [
        Stage(name="pretrain", training=PHASES["pretrain"]),
        Stage(
            name="prune", training=PHASES["prune"], method=METHOD, aim=Planned(plan), cut=True,
            figure="hard_pruned",
        ),
        Stage(
            name="retrain", training=PHASES["retrain"], method=KeepZeros(), figure="retrained"
        ),
    ]  # fmt: skip


def lenet5(weights: Mapping[str, Tensor]) -> nn.Module:
    """The network with these weights."""
    model = models.lenet5()
    model.load_state_dict(dict(weights))
    return model


def row(judges: Mapping[str, Any], name: str, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Accuracies and nonzeros of one state of the weights."""
    model = lenet5(weights)
    nonzeros = {n: int(w.count_nonzero()) for n, w in weights.items()}
    left = sum(count for n, count in nonzeros.items() if n.endswith("weight"))
    return {
        "stage": name, **{part: task.evaluate(model)["accuracy"] for part, task in judges.items()},
        "nonzero": nonzeros, "compression": round(430_500 / left, 1), "convention": "conv_fc_weights",
    }  # fmt: skip


def packed(path: Path, weights: Mapping[str, Tensor]) -> dict[str, int]:
    """The size of these weights as a file, headers and all."""
    save_file(dict(weights), path)
    packing = pack(path.with_suffix(".packed"), dict(weights))
    names = ("file_bytes", "data_bits", "index_bits", "header_bits")
    return {name: getattr(packing, name) for name in names}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder of the four IDX files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/admm_nn"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    judges = tasks(options.data, options.seed)
    with show_progress() as on_event:
        keeping = Keeping(config={"seed": options.seed}, on_event=on_event)
        run = run_stages(
            models.lenet5(), judges["validation"], stages(), options.out,
            seed=options.seed, resume=options.out.exists(), keeping=keeping,
        )  # fmt: skip
    weights = {n: w.contiguous() for n, w in run.model.state_dict().items()}
    rows = [
        row(judges, "dense", load_file(run.path / "before.safetensors")),
        row(judges, "pruned and retrained", weights),
    ]
    for bits in BITS:
        target = esp.quantise_plan(lenet5(weights), dict.fromkeys(weights, bits))
        quantised = {n: w.contiguous() for n, w in target.project(weights).items()}
        size = packed(run.path / f"{bits}-bits.safetensors", quantised)
        rows.append({**row(judges, "quantised by projection", quantised), "bits": bits, **size})
        print(rows[-1], flush=True)
    found = {
        "seed": options.seed, "limit_bits": LIMIT, "costs_bits": COSTS,
        "epochs": {name: training.epochs for name, training in PHASES.items()},
        "validation": "the last 5,000 training images, which nothing has seen", "rows": rows,
        "versions": versions("espalier", "torch"), "hardware": hardware(),
    }  # fmt: skip
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
