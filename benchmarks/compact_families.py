"""How many of torchvision's classification models can be made physically smaller, and correctly.

For every model (random weights, lively BatchNorm statistics): the channel graph; half of all
removable units, at random, zeroed; the compact model and its proof. Beside it Torch-Pruning at
ratio 0.5 with random importance: does it prune, and does the result run? Its result is another
function by design, so no proof is asked of it.

    python benchmarks/compact_families.py [MODEL …]    one process a model; the JSON grows and
                                                       a second call goes on where it stands

A model counts as correct if max |Δoutput| < 1e-4 (absolute and relative to the outputs' scale) and
at least half of the units zeroed were removed.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path

import torch
from families import vision

RESULT = Path(__file__).parent / "results" / "compact_families.json"
SEED = 0
SIZES = {"inception_v3": 299}
MEMORY = 12 << 30
FIXED = ("vit_", "swin_", "maxvit")


def build(torchvision, name):
    torch.manual_seed(SEED)
    more = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    size = SIZES.get(name, 64)
    if name.startswith(FIXED):
        size = 224
        if name.startswith("vit_"):
            size = 2 * int(name.rpartition("_")[2])
            more["image_size"] = size
        elif name.startswith("swin"):
            size = 64
    model = torchvision.models.get_model(name, weights=None, **more).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.3)
            torch.nn.init.normal_(module.running_mean, 0, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
        if isinstance(module, torch.nn.Linear) and not module.weight.any():
            torch.nn.init.normal_(module.weight, 0, 0.02)  # ViT's head begins as zeros
    return model, torch.randn(2, 3, size, size)


def ours(torchvision, name):
    from espalier.compaction import compact
    from espalier.graph import channel_graph

    model, x = build(torchvision, name)
    begin = time.perf_counter()
    graph = channel_graph(model, x)
    traced = time.perf_counter()
    ids = [unit.id for group in graph.removable for unit in group.units]
    gone = random.Random(SEED).sample(ids, len(ids) // 2)
    graph.zero_(model, gone, consumers=False)
    small = compact(model, x, graph=graph)
    difference, scale = small.proof.difference, small.proof.scale
    return {
        "correct": difference < 1e-4 * min(1.0, scale) and small.removed >= len(gone) / 2,
        "difference": difference,
        "scale": scale,
        "units": len(ids),
        "zeroed": len(gone),
        "removed": small.removed,
        "kept_back": small.kept_back,
        "unknown": dict(graph.unknown),
        "parameters": [small.before.parameters, small.after.parameters],
        "seconds": {
            "graph": round(traced - begin, 1),
            "compact": round(time.perf_counter() - traced, 1),
        },
        "size": x.shape[-1],
    }


def theirs(torchvision, name):
    import torch_pruning as tp

    model, x = build(torchvision, name)
    before = sum(p.numel() for p in model.parameters())
    last = [m for m in model.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)][-1]
    keep = [m for m in model.modules() if getattr(m, "out_features", 0) == 1000] or [last]
    pruner = tp.pruner.BasePruner(
        model,
        x,
        importance=tp.importance.RandomImportance(),
        pruning_ratio=0.5,
        ignored_layers=keep,
    )
    pruner.step()
    with torch.no_grad():
        model.eval()(x)
    return {"runs": True, "parameters": [before, sum(p.numel() for p in model.parameters())]}


def attempt(function, *arguments):
    try:
        return function(*arguments)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {str(error).strip()[:300]}"}


TOOLS = {"espalier": ours, "torch_pruning": theirs}


def one(name, tool):
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    torchvision, _library = vision()
    print("RESULT " + json.dumps(attempt(TOOLS[tool], torchvision, name)))


def apart(name, tool, timeout):
    """One model and one tool, in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, "--one", tool, name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"not done in {timeout} s"}
    lines = [x[7:] for x in done.stdout.splitlines() if x.startswith("RESULT ")]
    failed = {"error": (done.stderr.strip().splitlines() or ["killed"])[-1][:300]}
    return json.loads(lines[0]) if lines else failed


def summary(models):
    mine = [m["espalier"] for m in models.values()]
    other = [m["torch_pruning"] for m in models.values()]
    return {
        "models": len(models),
        "espalier_correct": sum(bool(m.get("correct")) for m in mine),
        "espalier_wrong": sum("difference" in m and m["difference"] >= 1e-4 for m in mine),
        "torch_pruning_runs": sum(bool(m.get("runs")) for m in other),
        "torch_pruning_shrinks": sum(
            m["parameters"][1] < m["parameters"][0] for m in other if m.get("runs")
        ),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*")
    parser.add_argument("--one", choices=TOOLS, help="this process, one model, to stdout")
    parser.add_argument("--timeout", type=int, default=1800, help="seconds a model")
    parser.add_argument("--again", action="store_true", help="also models that have a result")
    given = parser.parse_args()
    if given.one:
        one(given.models[0], given.one)
        return
    torchvision, _library = vision()
    import torch_pruning

    names = given.models or torchvision.models.list_models(module=torchvision.models)
    found = json.loads(RESULT.read_text()) if RESULT.exists() else {"models": {}}
    for name in names if given.again else [n for n in names if n not in found["models"]]:
        result = {tool: apart(name, tool, given.timeout) for tool in TOOLS}
        found["models"][name] = result
        found["seed"] = SEED
        found["versions"] = {
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "torch_pruning": getattr(torch_pruning, "__version__", "1.6.1"),
        }
        found["summary"] = summary(found["models"])
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
        print(name, json.dumps(result)[:300], flush=True)
    print(json.dumps(found["summary"]))


if __name__ == "__main__":
    main()
