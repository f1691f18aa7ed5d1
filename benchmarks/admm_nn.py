"""ADMM-NN's figures on LeNet-5/MNIST: prune, retrain, quantise, pack.

    python benchmarks/level_field.py pretrain --data MNIST          (once)
    python benchmarks/admm_nn.py --data MNIST

Every stage leaves its weights under ~/.cache/espalier-benchmarks and is not run again while they are there;
``results/admm_nn.json`` is written anew from them. Trained on the first 55,000 training images; accuracy is reported
on the last 5,000, which the pretrained weights have seen, and on the test images, for every number of bits.
"""

import argparse
import json
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from level_field import CACHE, pretrained, processor
from safetensors.torch import load_file, save_file

import espalier as esp
from espalier import data, models
from espalier.methods._holding import MaskHolder
from espalier.packing import pack
from espalier.sets import Shared, Unstructured
from espalier.tasks import Classification

RESULTS = Path(__file__).parent / "results" / "admm_nn.json"

LIMIT = 17_000
COSTS = {
    "conv1.weight": 7, "conv1.bias": 6, "conv2.weight": 10, "conv2.bias": 6,
    "fc1.weight": 14, "fc1.bias": 9, "fc2.weight": 10, "fc2.bias": 4,
}  # fmt: skip
"""Bits a nonzero of each tensor takes in a file, position and three bits of value: one budget in bits for all."""

PRUNE = {"epochs": 14, "lr": 3e-3, "retrain_epochs": 6, "retrain_lr": 1e-3}
DISTIL = {"epochs": 5, "lr": 2e-3, "temperature": 2.0, "teacher_share": 0.5}
BITS = (3, 4, 5, 6)


class Mnist:
    """Its three parts."""

    def __init__(self, path: str, seed: int) -> None:
        split = data.load("mnist", path)

        def part(images: slice) -> data.ImageSet:
            return replace(
                split.train, images=split.train.images[images], labels=split.train.labels[images]
            )

        self.train, held = part(slice(0, 55_000)), part(slice(55_000, None))
        options = {"batch_size": 128, "seed": 1000 + seed, "test_batch_size": 1000}
        self.job = Classification(self.train, held, **options)
        self.test = Classification(self.train, split.test, **options)

    def accuracies(self, model: torch.nn.Module) -> dict[str, float]:
        """On the images that choose and on those that are reported."""
        return {
            "validation": self.job.evaluate(model)["accuracy"],
            "test": self.test.evaluate(model)["accuracy"],
        }


def lenet5(weights: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    model = models.lenet5()
    model.load_state_dict(dict(weights))
    return model.to(memory_format=torch.channels_last)


def train(
    mnist: Mnist, model: Any, epochs: int, lr: float, first: int, handle: Any, loss: Any
) -> Any:
    """Adam, cosine to zero, bfloat16 autocast; ``handle`` makes what prunes or holds."""
    steps = epochs * mnist.job.steps_per_epoch
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, foreach=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps))
    )
    pruning = handle(optimizer, steps)
    for epoch in range(epochs):
        model.train()
        for batch in mnist.job.batches(first + epoch):
            images = batch.images.to(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(images)
            value = loss(logits.float(), batch)
            value.backward()
            if isinstance(pruning, esp.Pruning):
                pruning.add_gradients_()
            optimizer.step()
            optimizer.zero_grad()
            if isinstance(pruning, esp.Pruning):
                pruning.step(value.detach())
            schedule.step()
        print(
            f"epoch {epoch + 1}/{epochs}: {mnist.job.evaluate(model)['accuracy']:.4f}", flush=True
        )
    return pruning


def cross_entropy(logits: torch.Tensor, batch: Any) -> torch.Tensor:
    return F.cross_entropy(logits, batch.labels)


def prune(mnist: Mnist, seed: int) -> torch.nn.Module:
    """SLR onto one budget of bits, shared by weights and biases, in Adam's metric; then masked retraining."""
    model = lenet5(load_file(pretrained(seed)))
    plan = esp.plan(
        model, density=0.5, include=list(COSTS),
        allocation=lambda layers, _: Shared(Unstructured(), {n: COSTS[n] for n in layers}, LIMIT),
    )  # fmt: skip
    solver = esp.SLR(rho=30, step=3, cadence=20, metric=esp.AdamMoment(), decoupled=True)

    def handle(optimizer: Any, steps: int) -> esp.Pruning:
        return esp.Pruning(model, plan, solver, optimizer, steps)

    pruning = train(mnist, model, PRUNE["epochs"], PRUNE["lr"], 0, handle, cross_entropy)
    pruning.hard_prune_()
    train(
        mnist, model, PRUNE["retrain_epochs"], PRUNE["retrain_lr"], PRUNE["epochs"],
        lambda *_: pruning, cross_entropy,
    )  # fmt: skip
    return model


def distil(mnist: Mnist, seed: int, weights: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """More masked retraining, half of the loss towards the dense network's softened outputs."""
    model, teacher = lenet5(weights), lenet5(load_file(pretrained(seed))).eval()
    masks = {name: p.detach() != 0 for name, p in model.named_parameters()}
    heat, share = DISTIL["temperature"], DISTIL["teacher_share"]

    def loss(logits: torch.Tensor, batch: Any) -> torch.Tensor:
        with torch.no_grad():
            wanted = F.softmax(teacher(batch.images) / heat, 1)
        towards = F.kl_div(F.log_softmax(logits / heat, 1), wanted, reduction="batchmean")
        return (1 - share) * F.cross_entropy(logits, batch.labels) + share * heat**2 * towards

    def handle(optimizer: Any, _: int) -> MaskHolder:
        return MaskHolder(model.named_parameters(), masks, optimizer)

    train(mnist, model, DISTIL["epochs"], DISTIL["lr"], 100, handle, loss)
    return model


def stage(name: str, seed: int, make: Any) -> dict[str, torch.Tensor]:
    path = CACHE / f"admm_nn-{name}-{seed}.safetensors"
    if not path.exists():
        save_file({k: v.contiguous() for k, v in make().state_dict().items()}, path)
    return load_file(path)


def row(mnist: Mnist, name: str, weights: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    nonzeros = {n: int(w.count_nonzero()) for n, w in weights.items()}
    left = sum(count for n, count in nonzeros.items() if n.endswith("weight"))
    return {
        "stage": name, **mnist.accuracies(lenet5(weights)), "nonzero": nonzeros,
        "compression": round(430_500 / left, 1), "convention": "conv_fc_weights",
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder of the four IDX files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--distil", action="store_true", help="retrain towards the dense outputs too"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    mnist, seed = Mnist(options.data, options.seed), options.seed
    rows = [row(mnist, "dense", load_file(pretrained(seed)))]
    weights = stage("pruned", seed, lambda: prune(mnist, seed))
    rows.append(row(mnist, "pruned and retrained", weights))
    if options.distil:
        weights = stage("distilled", seed, lambda: distil(mnist, seed, weights))
        rows.append(row(mnist, "distilled", weights))
    for bits in BITS:
        target = esp.quantise_plan(lenet5(weights), dict.fromkeys(weights, bits))
        path = CACHE / f"admm_nn-{bits}-bits-{seed}.safetensors"
        quantised = {n: w.contiguous() for n, w in target.project(weights).items()}
        save_file(quantised, path)
        packing = pack(path.with_suffix(".packed"), quantised)
        rows.append(
            {
                **row(mnist, "quantised by projection", quantised), "bits": bits,
                "file_bytes": packing.file_bytes, "data_bits": packing.data_bits,
                "index_bits": packing.index_bits, "header_bits": packing.header_bits,
            }
        )  # fmt: skip
        print(rows[-1], flush=True)
    RESULTS.write_text(
        json.dumps(
            {
                "seed": seed, "limit_bits": LIMIT, "costs_bits": COSTS, "prune": PRUNE,
                "distil": DISTIL if options.distil else None,
                "validation": "the last 5,000 training images, which the pretrained weights have seen",
                "rows": rows, "torch": torch.__version__, "espalier": esp.__version__,
                "machine": processor(), "cores": os.cpu_count(),
            },
            indent=1,
        )
        + "\n"
    )  # fmt: skip


if __name__ == "__main__":
    main()
