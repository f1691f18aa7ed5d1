"""How much faster a model of half the arithmetic is: dense, masked and compact in turns, in ONNX Runtime on one thread.

    python benchmarks/speed.py                       # all models, into benchmarks/results/speed.json
    python benchmarks/speed.py resnet50 --rounds 15

Random weights: widths decide the time, values do not. Every model stands four times in one measurement: dense;
masked, with zeros in place; compact at half the multiply-accumulates, widths chosen by arithmetic; and compact for a
latency, widths chosen by ``espalier.plan_for_latency`` in the runtime itself, on one sample. In every round each has
one turn. Seconds are those of this process alone, which other work on the machine hardly lengthens.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from families import vision
from torch import Tensor, nn

import espalier as esp
from espalier._ground.environment import hardware, versions
from espalier.export import in_onnx_runtime
from espalier.measure import layer_costs
from espalier.measure._latency import latency
from espalier.solvers import OneShot

TORCHVISION, DECLARED = vision()  # before timm and transformers import it
RESULT = Path(__file__).parent / "results" / "speed.json"
WORDS = 64


class States(nn.Module):
    """A language model from words to its last hidden states, one tensor to one tensor."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, words: Tensor) -> Tensor:
        states: Tensor = self.net(words).last_hidden_state
        return states


def of_vision(name: str) -> tuple[nn.Module, Tensor]:
    return TORCHVISION.models.get_model(name, weights=None), torch.randn(1, 3, 224, 224)


def vit_small() -> tuple[nn.Module, Tensor]:
    import timm

    return timm.create_model("vit_small_patch16_224"), torch.randn(1, 3, 224, 224)


def distilbert() -> tuple[nn.Module, Tensor]:
    import transformers

    net = transformers.DistilBertModel(transformers.DistilBertConfig())
    return States(net), torch.randint(1, 30_000, (1, WORDS))


MODELS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "mobilenet_v3_large": partial(of_vision, "mobilenet_v3_large"),
    "vit_small": vit_small,
    "resnet50": partial(of_vision, "resnet50"),
    "distilbert": distilbert,
    "convnext_tiny": partial(of_vision, "convnext_tiny"),
}


def pruned(model: nn.Module, plan: Any, example: Tensor) -> tuple[nn.Module, nn.Module]:
    """The model with the plan's zeros in place, and the one without them."""
    masked = copy.deepcopy(model)
    esp.Pruning(masked, plan, OneShot()).hard_prune_()
    return masked, esp.compact(masked, example, zero_constants=True).model


def measured(name: str, asked: argparse.Namespace) -> dict[str, Any]:
    """One model in all its forms."""
    torch.manual_seed(0)
    model, example = MODELS[name]()
    model.eval()
    runtime = partial(in_onnx_runtime, example=example)
    found = esp.plan_for_latency(
        model,
        example,
        asked.target,
        runtime=runtime,
        trials=asked.trials,
        rounds=asked.search_rounds,
    )
    for trial in found.trials:
        print(name, trial, flush=True)
    plain = esp.plan(model, set=esp.sets.Filters(), macs=0.5, example_input=example)
    forms = {"dense": model}
    forms["masked"], forms["compact, half the MACs"] = pruned(model, plain, example)
    forms["compact, for the latency"] = pruned(model, found.plan, example)[1]
    macs = {form: layer_costs(one, example).total for form, one in forms.items()}
    table = latency(
        {"": {form: runtime(one) for form, one in forms.items()}}, example,
        batches=asked.batches, threads=(1,), rounds=asked.rounds, clock=time.process_time,
    )  # fmt: skip
    rows = [
        {
            "form": row.model, "batch": row.batch, "macs": macs[row.model] / macs["dense"],
            "seconds": row.seconds.median, "speedup": [row.speedup.low, row.speedup.median, row.speedup.high],
        }
        for row in table.rows
    ]  # fmt: skip
    trials = [
        {"macs": t.macs_left / macs["dense"], "multiple": t.multiple}
        | {"latency": [t.latency.low, t.latency.median, t.latency.high]}
        for t in found.trials
    ]
    return {
        "macs": macs["dense"], "input": list(example.shape), "target": asked.target, "rounds": asked.rounds,
        "clock": "process",
        "rows": rows, "trials": trials, "hardware": hardware(),
        "versions": versions("espalier", "torch", "onnxruntime", "torchvision", "timm", "transformers"),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=list(MODELS), metavar="MODEL")
    parser.add_argument("--target", type=float, default=0.6, help="of the dense latency")
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--search-rounds", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--out", type=Path, default=RESULT)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for name in asked.models:
        found = measured(name, asked)
        kept = json.loads(asked.out.read_text()) if asked.out.exists() else {}
        asked.out.write_text(json.dumps({**kept, name: found}, indent=1) + "\n")
        for row in found["rows"]:
            print(name, row, flush=True)


if __name__ == "__main__":
    main()
