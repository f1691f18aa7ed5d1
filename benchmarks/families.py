"""Models of torchvision, timm and transformers, made smaller at random and by plan, each in a process of its own.

Of every model: random weights, with what initialisation sets to 0 or 1 (γ, biases, layer scales) drawn at
random and the statistics of BatchNorm estimated anew. Then twice:

- half of all removable units, at random, zeroed, and compacted;
- a plan of half the MACs, its zeros set, and compacted: real against planned multiply-accumulates.

    python benchmarks/families.py [--jobs 2] [MODEL …]    MODEL is library:name; results/families.json grows,
                                                          and a second call goes on where it stands

An outcome is ``right`` (compact, at least half of the units zeroed are gone, and equal in float64 on batches
that the proof did not see), ``partly`` (right, but fewer went), ``none`` (nothing is removable), ``refused``
(an error of ours), ``raw`` (any other error), ``wrong`` (handed back, but not equal), ``slow`` (out of time) or
``absent`` (the library does not build or run it).
"""

import argparse
import copy
import importlib.util
import json
import platform
import random
import resource
import subprocess
import sys
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import torch
from family_names import CONFIGURATIONS, NAMES
from torch import nn

HERE = Path(__file__).parent
RESULT = HERE / "results" / "families.json"
SEED = 0
MEMORY = 12 << 30
SIZES = (64, 128, 224)


def vision():
    """The library; built for CUDA it does not import beside a CPU-only torch unless its operators are named."""
    library = torch.library.Library("torchvision", "DEF")
    try:
        import torchvision
    except RuntimeError:
        for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision
    return torchvision, library


def made(name):
    """A model and its example, the smallest image that it takes."""
    library, _, which = name.partition(":")
    torchvision, held = vision()
    vision.held = held  # the declarations live as long as this object
    if library == "transformers":
        return _language(which)

    def create(size):
        if library == "torchvision":
            more = {"init_weights": False} if which in ("googlenet", "inception_v3") else {}
            more |= {"image_size": size} if which.startswith("vit_") else {}
            return torchvision.models.get_model(which, weights=None, **more)
        import timm

        try:
            return timm.create_model(which, num_classes=100, img_size=size)
        except TypeError:
            return timm.create_model(which, num_classes=100)

    failed = None
    for size in (*SIZES, 256, 299):
        try:
            torch.manual_seed(SEED)
            model, x = create(size).eval(), torch.randn(2, 3, size, size)
            with torch.no_grad():
                model(x)
                # Statistics over one place are none: the smallest image must leave several.
                copy.deepcopy(model).train()(x)
            return model, x
        except Exception as error:
            failed = error
    raise failed


def _language(which):
    import transformers

    kind, config, more = CONFIGURATIONS[which]
    torch.manual_seed(SEED)
    model = getattr(transformers, kind)(
        getattr(transformers, config)(**more, use_cache=False)
    ).eval()
    words = torch.randint(3, more.get("vocab_size", 100), (2, 12))
    x = {"input_ids": words}
    if "num_channels" in more:
        x = {"pixel_values": torch.randn(2, 3, more["image_size"], more["image_size"])}
    elif model.config.is_encoder_decoder:
        x["decoder_input_ids"] = words[:, :7].clone()
    run(model, x)
    return model, x


@torch.no_grad()
def enliven_(model, x):
    """Values where an initialisation has 0 or 1, and BatchNorm's statistics estimated from data."""
    norms = {
        id(m.weight)
        for m in model.modules()
        if "Norm" in type(m).__name__ and isinstance(getattr(m, "weight", None), nn.Parameter)
    }
    for name, p in model.named_parameters():
        if not p.is_floating_point():
            continue
        still = bool((p == p.flatten()[0]).all()) and p.numel() > 1
        if id(p) in norms:
            nn.init.uniform_(p, 0.5, 1.5)
        elif p.dim() == 1 and name.endswith("bias"):
            nn.init.normal_(p, 0, 0.1)
        elif still and not p.any() and p.dim() > 1:
            nn.init.normal_(p, 0, 0.05)
        elif still:
            nn.init.uniform_(p, 0.3, 0.8)
    batch = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not batch:
        return
    for m in batch:
        m.reset_running_stats()
        m.momentum, m.was = None, m.momentum
        m.train()
    for _ in range(4):
        run(model, drawn(x))
    for m in batch:
        m.eval()
        m.momentum = m.was
        del m.was


def drawn(x):
    if isinstance(x, dict):
        return {k: drawn(v) for k, v in x.items()}
    if x.is_floating_point():
        return torch.randn(x.shape)
    return torch.randint(int(x.min()), int(x.max()) + 1, x.shape)


def run(model, x):
    found = model(**x) if isinstance(x, dict) else model(x)
    found = found.to_tuple() if hasattr(found, "to_tuple") else found
    return [t for t in torch.utils._pytree.tree_leaves(found) if isinstance(t, torch.Tensor)]


@torch.no_grad()
def apart(masked, small, x):
    """The largest difference beside its output's size, in float64 where the model allows it."""
    wide = [copy.deepcopy(m).double() for m in (masked, small)]
    worst = 0.0
    for seed in range(2):
        torch.manual_seed(1000 + seed)
        batch = drawn(x)
        double = torch.utils._pytree.tree_map(
            lambda t: t.double() if t.is_floating_point() else t, batch
        )
        try:
            pair = [run(m, double) for m in wide]
        except Exception:
            pair = [run(m, batch) for m in (masked, small)]
        for a, b in zip(*pair, strict=True):
            if a.is_floating_point():
                gap = torch.where(a == b, 0.0, a - b).abs().max().item()
                worst = max(worst, gap / (a[a.isfinite()].abs().max().item() + 1e-30))
    return worst


def share(model, graph):
    """The part of all parameters that some removable unit touches."""
    removable = {unit.id for group in graph.removable for unit in group.units}
    tensors = dict(model.named_parameters())
    touched = {}
    for (name, axis), ids in graph.classes.items():
        if name not in tensors:
            continue
        mask = touched.setdefault(name, torch.zeros(tensors[name].shape, dtype=torch.bool))
        here = torch.tensor([one in removable for one in ids.tolist()])
        mask |= here.view([-1 if d == axis else 1 for d in range(mask.dim())])
    return sum(int(m.sum()) for m in touched.values()) / sum(p.numel() for p in tensors.values())


def error_of(error):
    from espalier.errors import EspalierError

    kind = "refused" if isinstance(error, EspalierError) else "raw"
    return {"outcome": kind, "error": f"{type(error).__name__}: {str(error).strip()[:400]}"}


def at_random(model, x):
    from espalier.compaction import compact
    from espalier.graph import channel_graph

    begin = time.perf_counter()
    graph = channel_graph(model, x)
    traced = time.perf_counter()
    ids = [unit.id for group in graph.removable for unit in group.units]
    found = {
        "units": len(ids),
        "unit_share": round(share(model, graph), 4),
        "unknown": {str(k): str(v) for k, v in dict(graph.unknown).items()},
        "graph_s": round(traced - begin, 1),
    }
    if not ids:
        return {"outcome": "none", **found}
    masked = copy.deepcopy(model)
    gone = random.Random(SEED).sample(ids, len(ids) // 2)
    graph.zero_(masked, gone, consumers=False)
    begin = time.perf_counter()
    try:
        small = compact(masked, x, graph=graph)
    except Exception as error:
        return {**error_of(error), **found}
    found |= {
        "compact_s": round(time.perf_counter() - begin, 1),
        "zeroed": len(gone),
        "removed": small.removed,
        "kept_back": small.kept_back,
        "parameters": [small.before.parameters, small.after.parameters],
        "difference": apart(masked, small.model, x),
    }
    right = "right" if small.removed >= len(gone) / 2 else "partly"
    return {"outcome": right if found["difference"] < 1e-4 else "wrong", **found}


@torch.no_grad()
def by_plan(model, x):
    from espalier import plan
    from espalier.compaction import compact
    from espalier.errors import BudgetError
    from espalier.measure import layer_costs
    from espalier.sets import Filters

    begin = time.perf_counter()
    try:
        one = plan(model, macs=0.5, set=Filters(), example_input=x)
    except BudgetError as error:
        return {
            "outcome": "unmet",
            "error": str(error)[:400],
            "plan_s": round(time.perf_counter() - begin, 1),
        }
    except Exception as error:
        return error_of(error)
    found = {
        "plan_s": round(time.perf_counter() - begin, 1),
        "planned": round(one.macs_left / one.macs, 4),
        "notes": list(one.notes)[:6],
    }
    masked = copy.deepcopy(model)
    named = dict(masked.named_parameters())
    for name, values in one.project({k: v.detach().clone() for k, v in named.items()}).items():
        named[name].copy_(values)
    try:
        small = compact(masked, x)
    except Exception as error:
        return {**error_of(error), **found}
    real = layer_costs(small.model, x).total / one.macs
    gap = apart(masked, small.model, x)
    agrees = abs(real - found["planned"]) <= 0.01 * found["planned"] + 5e-5
    outcome = "wrong" if gap >= 1e-4 else "agrees" if agrees else "differs"
    return {
        "outcome": outcome,
        "real": round(real, 4),
        "kept_back": small.kept_back,
        "difference": gap,
        **found,
    }


def one(name):
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    torch.set_num_threads(1)
    try:
        model, x = made(name)
        enliven_(model, x)
    except Exception as error:
        print("RESULT " + json.dumps({"random": {"outcome": "absent", "error": str(error)[:300]}}))
        return
    size = next(iter(x.values())).shape[-1] if isinstance(x, dict) else x.shape[-1]
    found = {"size": size, "of": sum(p.numel() for p in model.parameters())}
    for what, function in (("random", at_random), ("plan", by_plan)):
        try:
            found[what] = function(model, x)
        except Exception as error:
            found[what] = error_of(error)
        print("RESULT " + json.dumps(found), flush=True)


def aside(name, timeout):
    """One model, in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, "--one", name]
    late = False
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            late = True
    lines = [x[7:] for x in out.splitlines() if x.startswith("RESULT ")]
    found = json.loads(lines[-1]) if lines else {}
    why = {"outcome": "slow", "error": f"not done in {timeout} s"} if late else None
    why = why or {"outcome": "raw", "error": (err.strip().splitlines() or ["killed"])[-1][:300]}
    if found.get("random", {}).get("outcome") != "absent":
        for what in ("random", "plan"):
            found.setdefault(what, why)
            if what == "random" and found[what] is why:
                break
    return found


def summary(models):
    done = {n: m for n, m in models.items() if m["random"]["outcome"] != "absent"}
    outcomes = {
        what: dict(Counter(m[what]["outcome"] for m in done.values() if what in m))
        for what in ("random", "plan")
    }
    names = {
        what: {
            kind: [n for n, m in done.items() if m.get(what, {}).get("outcome") == kind]
            for kind in sorted(
                {m[what]["outcome"] for m in done.values() if what in m} - {"right", "agrees"}
            )
        }
        for what in ("random", "plan")
    }
    return {"models": len(done), "outcomes": outcomes, "names": names}


def hardware():
    names = [
        x.partition(":")[2].strip()
        for x in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in x
    ]
    return {"cpu": names[0] if names else platform.processor(), "threads": 1}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*")
    parser.add_argument("--one", metavar="MODEL", help="this process, one model, to stdout")
    parser.add_argument("--timeout", type=int, default=120, help="seconds a model")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="also models that have a result")
    given = parser.parse_args()
    if given.one:
        one(given.one)
        return
    found = json.loads(RESULT.read_text()) if RESULT.exists() else {"models": {}}
    names = given.models or NAMES
    names = names if given.again else [n for n in names if n not in found["models"]]
    packages = [
        p for p in ("torch", "torchvision", "timm", "transformers") if importlib.util.find_spec(p)
    ]
    with ThreadPoolExecutor(given.jobs) as pool:
        for name, result in zip(
            names, pool.map(lambda n: aside(n, given.timeout), names), strict=True
        ):
            found["models"][name] = result
            found |= {
                "seed": SEED,
                "versions": {p: version(p) for p in packages},
                "hardware": hardware(),
            }
            found["summary"] = summary(found["models"])
            RESULT.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
            print(
                name,
                {k: v.get("outcome") if isinstance(v, dict) else v for k, v in result.items()},
                flush=True,
            )
    print(json.dumps(found.get("summary"), indent=1))


if __name__ == "__main__":
    main()
