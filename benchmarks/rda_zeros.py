"""Whose zeros stay: RDA and proximal SGD on LeNet-5, from the same weights, on the same batches.

    python benchmarks/rda_zeros.py search --data MNIST --epochs 10 rda:1e-3:1:1.4:400 sgd:1e-3:1:1.4:400
    python benchmarks/rda_zeros.py final --data MNIST --epochs 40 --seeds 0 rda:1e-3:1:1.4:400 …
    python benchmarks/rda_zeros.py final --data MNIST --pretrain 2 --epochs 8 asr:5e-4:.5:0:1000:4:0 sgd:5e-4:.5:0:1000

A setting is optimiser:λ:γ:s:t_0; s = 0 keeps the weights at hand, those that ``--pretrain`` epochs of Adam have
left. ``asr`` is RDA with adaptive sparse retraining from epoch E on, at λ': asr:λ:γ:s:t_0:E:λ'.
``search`` trains without the last of the training images (5,000 of MNIST, 300 of the digits, which are used
without --data) and looks at them; ``final`` trains on all and looks at the test set at the end. Both add their
rows to ``results/rda_zeros.json``. Under bfloat16 autocast; weights are float32.
"""

import argparse
import json
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from espalier import data, models
from espalier.errors import NonFiniteError
from espalier.methods import RDA, DualAveraging, Handle, ProxSGD, Setting
from espalier.methods._rda import draw_
from espalier.planning import plan
from espalier.tasks import Classification
from espalier.training import fit

RESULTS = Path(__file__).parent / "results" / "rda_zeros.json"
HELD_OUT, BATCH = {"mnist": 5_000, "digits": 300}, {"mnist": 128, "digits": 32}


def split(path: str | None, validation: bool) -> data.Split:
    """MNIST or the digits; or their training images alone, the last of them in the place of the test set."""
    images = data.load("mnist", path) if path else data.load("digits")
    if not validation:
        return images
    all_of, n = images.train, HELD_OUT["mnist" if path else "digits"]
    return data.Split(
        train=replace(all_of, images=all_of.images[:-n], labels=all_of.labels[:-n]),
        test=replace(all_of, images=all_of.images[-n:], labels=all_of.labels[-n:]),
    )


def zeros(model: torch.nn.Module) -> dict[str, float]:
    """Fraction of exact zeros: of each weight tensor, and of all 430,500 weights."""
    weights = {n: p.detach() for n, p in model.named_parameters() if p.dim() > 1}
    each = {n: round(1 - int(w.count_nonzero()) / w.numel(), 5) for n, w in weights.items()}
    gone = sum(w.numel() - int(w.count_nonzero()) for w in weights.values())
    return {**each, "all": round(gone / sum(w.numel() for w in weights.values()), 5)}


def begun(task: Classification, epochs: int, seed: int, starts: Path | None) -> torch.nn.Module:
    """LeNet-5 from the seed, after so many epochs of Adam or as a field's start; the same for every setting."""
    torch.manual_seed(seed)
    model = models.build("lenet5")
    if starts is not None:
        models.load_weights(model, starts / f"lenet5-mnist-test-seed{seed}" / "weights.safetensors")
    elif epochs:
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        fit(
            model,
            task,
            optimizer=optimizer,
            epochs=epochs,
            evaluate_every=epochs,
            autocast=torch.bfloat16,
        )
    return model


def train(
    kind: str,
    setting: str,
    path: str | None,
    epochs: int,
    seed: int,
    pretrain: int,
    starts: Path | None,
) -> dict[str, Any]:
    """One run; what it came to, and its zeros at every epoch."""
    name, *figures = setting.split(":")
    l1, gamma, scale, start = (float(figure) for figure in figures[:4])
    problem = "mnist" if path else "digits"
    images = split(path, validation=kind == "search")
    task = Classification(images.train, images.test, batch_size=BATCH[problem], seed=1000 + seed)
    model = begun(task, pretrain, seed, starts).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    generator = torch.Generator().manual_seed(seed)
    weights = [p for p in model.parameters() if p.dim() > 1]
    biases = [p for p in model.parameters() if p.dim() == 1]
    if scale:
        for weight in weights:
            draw_(weight, scale, generator)
    optimizer: torch.optim.Optimizer | None = None
    handle: Handle | None = None
    if name == "rda":
        groups = [{"params": weights, "l1": l1}, {"params": biases, "centred": True}]
        optimizer = RDA(groups, gamma=gamma, start=int(start))
    elif name == "asr":
        begin, after = int(figures[4]), float(figures[5])
        method = DualAveraging(
            l1=((0, l1), (begin, after)),
            gamma=gamma,
            start=int(start),
            retrain_from=begin,
            keeps_weights=True,
        )
        steps = Setting(
            optimizer=lambda _: ProxSGD([], lr=1.0), steps_per_epoch=task.steps_per_epoch
        )
        handle = method.attach(model, plan(model, density=1.0), steps)
    else:
        groups = [{"params": weights, "l1": l1}, {"params": biases}]
        optimizer = ProxSGD(groups, lr=1 / gamma, start=int(start))
    along: list[float] = []
    kept = {n: p.detach() == 0 for n, p in model.named_parameters() if p.dim() > 1}
    left: list[
        float
    ] = []  # of the zeros of one epoch, the part that is none at the end of the next

    def at_epoch(event: Any) -> None:
        if event["event"] != "epoch":
            return
        now = {n: p.detach() == 0 for n, p in model.named_parameters() if n in kept}
        before = sum(int(mask.sum()) for mask in kept.values())
        gone = sum(int((kept[n] & ~now[n]).sum()) for n in now)
        left.append(round(gone / max(1, before), 5))
        along.append(zeros(model)["all"])
        kept.update(now)

    began = time.perf_counter()
    try:
        result = fit(
            model, task, handle, optimizer=optimizer, epochs=epochs, on_event=at_epoch,
            evaluate_every=epochs, autocast=torch.bfloat16,
        )  # fmt: skip
        metrics = result.metrics or {}
    except NonFiniteError as error:  # such a setting is a result too
        metrics = {"accuracy": 0.0}
        print(error)
    return {
        "kind": kind, "problem": problem, "optimiser": name, "setting": setting, "l1": l1, "gamma": gamma,
        "scale": scale, "start": int(start), "seed": seed, "pretrain": "field" if starts else pretrain,
        "epochs": epochs, "batch": BATCH[problem], "accuracy": metrics["accuracy"], "zeros": zeros(model),
        "zeros_by_epoch": along, "zeros_that_left_by_epoch": left,
        "seconds": round(time.perf_counter() - began, 1),
    }  # fmt: skip


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("search", "final"))
    parser.add_argument("settings", nargs="+")
    parser.add_argument("--data")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--pretrain", type=int, default=0)
    parser.add_argument("--starts", type=Path, help="the dense weights of benchmarks/field.py")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    given = parser.parse_args()
    torch.set_num_threads(1)
    for seed in given.seeds:
        for setting in given.settings:
            row = train(
                given.kind, setting, given.data, given.epochs, seed, given.pretrain, given.starts
            )
            said = {"environment": f"torch {torch.__version__}, {platform.machine()}, 1 thread"}
            held = json.loads(given.out.read_text()) if given.out.exists() else {**said, "rows": []}
            held["rows"].append(row)
            given.out.write_text(json.dumps(held, indent=1) + "\n")
            print(setting, seed, row["accuracy"], row["zeros"], row["seconds"], flush=True)


if __name__ == "__main__":
    main()
