"""A level field for structured pruning: the same groups of channels, the same epochs in all, made compact, fine-tuned.

    python benchmarks/structured_field.py                             # ResNet-20, three seeds, half the MACs
    python benchmarks/structured_field.py --model resnet56 --macs 0.5 --prune 26 --tune 14
    python benchmarks/structured_field.py --validate 5000 --images 20000 --seeds 1 --tune-lr 3e-4   # to choose settings

Every contestant begins with the same pretrained weights, ends with a model that *is* smaller, and trains for
``--prune`` + ``--tune`` epochs in all with one loss, optimiser, augmentation and schedule: what prunes while it trains
(SLR, ADMM, gradual, Torch-Pruning's group-norm pruner with its sparse regularisation) prunes for ``--prune`` and
fine-tunes the compact model for ``--tune`` epochs; what prunes at once (one-shot, Torch-Pruning's magnitude pruner)
fine-tunes for all of them. Pruned are the inner filters of every block, for Torch-Pruning's graph does not see through
the padded shortcuts that tie the stages; "every group" takes the stages' filters too. Widths are one fraction of every
group, alike for all, or "global": what the contestant's own ranking of all units leaves.

``--validate N`` holds N training images out and evaluates on those in place of the test set. A run that
``results/structured_field.jsonl`` has is not done again; seeds are outermost: each that is finished is a whole table.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

import espalier as esp
from espalier._ground.environment import environment
from espalier.compare import contestants
from espalier.measure import layer_costs
from espalier.recipe import load
from espalier.recipe._building import make_training
from espalier.recipe._running import Job, run
from espalier.training import Training, build_optimizer, build_scheduler, reestimate_

HERE = Path(__file__).parent
RESULT = HERE / "results" / "structured_field.jsonl"
RECIPE = HERE.parent / "recipes" / "resnet20-cifar10-73pct-macs.yaml"
INNER = "[layer*.conv1.weight]"
CALIBRATION = 50  # batches for BatchNorm's statistics, as in a run


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """Who prunes, which groups, and whether while it trains.

    Attributes:
        method: A solver of Espalier's, or a pruner of Torch-Pruning's.
        ranking: Units of all groups compete, in place of one fraction for each.
        every: Every group, the stages' too; else the inner filters of the blocks.
    """

    method: str
    ranking: bool = False
    every: bool = False

    @property
    def at_once(self) -> bool:
        """Whether it cuts before any training."""
        return self.method in ("oneshot", "magnitude")

    @property
    def theirs(self) -> bool:
        """Whether it is Torch-Pruning's."""
        return self.method in ("magnitude", "group-norm")


METHODS = {
    "slr": Contestant(method="slr"),
    "admm": Contestant(method="admm"),
    "gradual": Contestant(method="gradual"),
    "one-shot": Contestant(method="oneshot"),
    "Torch-Pruning magnitude": Contestant(method="magnitude"),
    "Torch-Pruning group-norm": Contestant(method="group-norm"),
    "one-shot, global": Contestant(method="oneshot", ranking=True),
    "slr, global": Contestant(method="slr", ranking=True),
    "Torch-Pruning magnitude, global": Contestant(method="magnitude", ranking=True),
    "Torch-Pruning group-norm, global": Contestant(method="group-norm", ranking=True),
    "one-shot, every group": Contestant(method="oneshot", every=True),
    "slr, every group": Contestant(method="slr", every=True),
}


def job_of(label: str, seed: int, asked: argparse.Namespace) -> Job:
    """Model, task and plan of a contestant; Torch-Pruning's take model and task."""
    who = METHODS[label]
    settings = [
        f"model.name={asked.model}", f"plan.macs={asked.macs}", f"training.seed={seed}",
        "model.weights=${ESPALIER_DATA}/weights/" + f"{asked.model}_cifar10.safetensors",
        f"training.epochs={0 if who.at_once else asked.prune}", "evaluate_every=1000",
        *([] if who.every else [f"plan.include={INNER}"]),
        *(["plan.allocation=global", *asked.ranking] if who.ranking else []),
        *asked.set,
    ]  # fmt: skip
    recipe, content = load(RECIPE, settings)
    method = "oneshot" if who.theirs else who.method
    (one,) = contestants("field", recipe, content, methods=[method], seeds=1)
    job = Job.prepare(one.recipe, one.content)
    task = job.task
    if asked.images or asked.validate:
        kept, held = task.train.parted(asked.validate) if asked.validate else (None, task.train)
        task = copy.copy(task)
        if kept is not None:
            task.train, task.test = held, kept
        task.train = task.train.first(asked.images)
    job.model.to(memory_format=torch.channels_last)
    return replace(job, task=task)


def ours(job: Job, folder: Path) -> nn.Module:
    """Trained onto the plan by the house's own run, then compact."""
    run(replace(job, task=brief(job.task)), folder, resume=True)
    return esp.compact(job.model.eval(), job.task.example_input, zero_constants=True).model


def theirs(job: Job, who: Contestant, most: float, reg: float) -> nn.Module:
    """Torch-Pruning, regularised while it trains if it does, then cut.

    With one fraction for every group it is given the plan's widths; with a ranking it takes channels off one by one,
    as its examples do, until the model is within the multiply-accumulates.
    """
    import torch_pruning as tp

    model, example = job.model.eval(), job.task.example_input
    layers = {
        f"{n}.weight": m for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)
    }
    kept = {n: e.keep for n, e in job.plan.entries.items() if n in layers}
    # Half a channel more than the width, for it truncates what its floating-point ratio leaves.
    ratios = {layers[n]: 1 - (k + 0.5) / layers[n].out_channels for n, k in kept.items()}
    how = {
        "global_pruning": True,
        "pruning_ratio": 1.0,
        "max_pruning_ratio": 0.9,
        "iterative_steps": 400,
    }
    grouped = who.method == "group-norm"
    pruner = (tp.pruner.GroupNormPruner if grouped else tp.pruner.MetaPruner)(
        model, example, importance=tp.importance.GroupMagnitudeImportance(p=2),
        ignored_layers=[m for n, m in layers.items() if n not in kept],
        **(how if who.ranking else {"pruning_ratio_dict": ratios}), **({"reg": reg} if grouped else {}),
    )  # fmt: skip
    if not who.at_once:
        training = make_training(job.recipe, job.recipe.training)
        trained(model, job.task, training, "sparse", before_step=lambda: pruner.regularize(model))
    model.eval()
    while layer_costs(model, example).total > most:
        pruner.step()
    return model


def brief(task: Any) -> Any:
    """The task with few test images: what trains evaluates more often than what counts is looked at."""
    found = copy.copy(task)
    found.test = task.test.first(500)
    return found


def trained(
    model: nn.Module,
    task: Any,
    training: Training,
    phase: str,
    before_step: Callable[[], None] = lambda: None,
) -> None:
    """Train as the house does, with something done to the gradient before each step."""
    optimizer = build_optimizer(model.parameters(), training)
    optimizer.register_step_pre_hook(lambda *_: before_step())
    esp.fit(
        model, brief(task), optimizer=optimizer, epochs=training.epochs, evaluate_every=1000, phase=phase,
        scheduler=build_scheduler(optimizer, training, task.steps_per_epoch), autocast=torch.bfloat16,
    )  # fmt: skip


def row(label: str, seed: int, asked: argparse.Namespace) -> dict[str, Any]:
    """One contestant, from pretrained weights to a fine-tuned compact model."""
    who, job = METHODS[label], job_of(label, seed, asked)
    dense, example = layer_costs(job.model, job.task.example_input).total, job.task.example_input
    began = time.monotonic()
    if who.theirs:
        small = theirs(job, who, asked.macs * dense, asked.reg)
    else:
        small = ours(job, asked.runs / f"{folder_name(label, asked)}-seed{seed}")
    pruned = time.monotonic()
    reestimate_(small, job.task.inputs("train", CALIBRATION))
    cut = accuracy(job, small)
    tuned, epochs = time.monotonic(), asked.tune + asked.prune * who.at_once
    small.to(memory_format=torch.channels_last)
    training = replace(
        make_training(job.recipe, job.recipe.training), epochs=epochs, lr=asked.tune_lr
    )
    trained(small, job.task, training, "finetune")
    return {
        **key(label, seed, asked),
        "cut_bn": cut, "tuned": accuracy(job, small),
        "macs": layer_costs(small, example).total, "macs_dense": dense,
        "parameters": sum(p.numel() for p in small.parameters()),
        "widths": [m.out_channels for m in small.modules() if isinstance(m, nn.Conv2d)],
        "seconds": {"prune": round(pruned - began), "tune": round(time.monotonic() - tuned)},
        **{k: v for k, v in environment().items() if k in ("versions", "hardware")},
        "torch_pruning": version("torch-pruning") if who.theirs else None,
    }  # fmt: skip


def key(label: str, seed: int, asked: argparse.Namespace) -> dict[str, Any]:
    """What tells runs apart."""
    who = METHODS[label]
    return {
        "model": asked.model, "macs_asked": asked.macs, "contestant": label, "seed": seed,
        "epochs": [0 if who.at_once else asked.prune, asked.tune + (asked.prune if who.at_once else 0)],
        "tune_lr": asked.tune_lr, "reg": asked.reg if who.method == "group-norm" else None,
        "ranking": asked.ranking if who.ranking and not who.theirs else None, "set": asked.set,
        "held_out": asked.validate, "images": asked.images,
    }  # fmt: skip


def folder_name(label: str, asked: argparse.Namespace) -> str:
    parts = [asked.model, asked.macs, asked.prune, label, *asked.set, asked.validate, asked.images]
    if METHODS[label].ranking:
        parts += asked.ranking
    return "-".join(str(part).replace("/", "_").replace(" ", "") for part in parts if part)


def accuracy(job: Job, model: nn.Module) -> float:
    return round(job.task.evaluate(model)["accuracy"], 5)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("contestants", nargs="*", default=list(METHODS), metavar="CONTESTANT")
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--macs", type=float, default=0.5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--prune", type=int, default=2, metavar="EPOCHS")
    parser.add_argument("--tune", type=int, default=1, metavar="EPOCHS")
    parser.add_argument("--tune-lr", type=float, default=1e-3)
    parser.add_argument("--reg", type=float, default=1e-4, help="of the group-norm pruner")
    parser.add_argument(
        "--ranking", nargs="*", default=[], metavar="SETTING", help="plan.ranking.KEY=VALUE"
    )
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="SETTING", help="of the recipe, for all"
    )
    parser.add_argument("--validate", type=int, metavar="IMAGES")
    parser.add_argument("--images", type=int, help="train on so many only")
    parser.add_argument("--runs", type=Path, default=Path("runs/structured_field"))
    parser.add_argument("--out", type=Path, default=RESULT)
    asked = parser.parse_args()
    for seed in range(asked.seeds):
        for label in asked.contestants:
            wanted = key(label, seed, asked)
            lines = asked.out.read_text().splitlines() if asked.out.exists() else []
            if any(wanted.items() <= json.loads(line).items() for line in lines):
                continue
            found = row(label, seed, asked)
            with asked.out.open("a") as file:
                file.write(json.dumps(found) + "\n")
            told = {
                name: found[name] for name in ("contestant", "seed", "cut_bn", "tuned", "seconds")
            }
            print(told, round(found["macs"] / found["macs_dense"], 4), flush=True)


if __name__ == "__main__":
    main()
