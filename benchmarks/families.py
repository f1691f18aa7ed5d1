"""Models of torchvision, timm and transformers, made smaller at random and by plan, each in a process of its own.

Of every model: random weights, with what initialisation sets to 0 or 1 (γ, biases, layer scales) drawn at
random and the statistics of BatchNorm estimated anew. Then three times:

- half of all removable units, at random, zeroed, and compacted;
- a plan of half the MACs, its zeros set, and compacted: real against planned multiply-accumulates;
- half of the channels by Torch-Pruning (``beside.py``).

    python benchmarks/families.py [MODEL …]    MODEL is library:name; results/families.json grows, and a
                                               second call goes on where it stands
    python benchmarks/families.py --real       transformers as published: reach, proof and seconds

An outcome is ``right`` (compact, at least half of the units zeroed are gone, and equal in float64 on batches
that the proof did not see), ``partly`` (right, but fewer went), ``none`` (nothing is removable), ``refused``
(an error of ours), ``raw`` (any other error), ``wrong`` (handed back, but not equal), ``slow`` (out of time) or
``absent`` (the library does not build or run it). Seconds are those of the processor, on one thread.
"""

import argparse
import copy
import functools
import json
import multiprocessing
import platform
import random
import resource
import signal
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import beside
import torch
from family_models import SEED, apart, enliven_, made, resized, vision
from family_names import NAMES, REAL
from torch import nn

HERE = Path(__file__).parent
RESULT = HERE / "results" / "families.json"
MEMORY = 14 << 30
CONTEXT = multiprocessing.get_context("fork")
PACKAGES = ("torch", "torchvision", "timm", "transformers", "torch-pruning")
MEASURED = ("graph", "compaction", "planning", "budgets", "measure", "sets")


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


@dataclass(frozen=True, eq=False)
class Case:
    """A model and its example; its channel graph, traced once for all parts."""

    model: nn.Module
    x: object

    @functools.cached_property
    def graph(self):
        from espalier.graph import channel_graph

        return channel_graph(self.model, self.x)


def at_random(case):
    from espalier.compaction import compact

    model, x = case.model, case.x
    begin = time.process_time()
    graph = case.graph
    traced = time.process_time()
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
    begin = time.process_time()
    try:
        small = compact(masked, x, graph=graph)
    except Exception as error:
        return {**error_of(error), **found}
    found |= {
        "compact_s": round(time.process_time() - begin, 1),
        "zeroed": len(gone),
        "removed": small.removed,
        "kept_back": small.kept_back,
        "parameters": [small.before.parameters, small.after.parameters],
        "difference": apart(masked, small.model, x),
    }
    right = "right" if small.removed >= len(gone) / 2 else "partly"
    return {"outcome": right if found["difference"] < 1e-4 else "wrong", **found}


@torch.no_grad()
def by_plan(case):
    from espalier import plan
    from espalier.compaction import compact
    from espalier.errors import BudgetError
    from espalier.measure import layer_costs
    from espalier.sets import Filters

    model, x = case.model, case.x
    begin = time.process_time()
    try:
        one = plan(model, macs=0.5, set=Filters(), example_input=x)
    except BudgetError as error:
        return {
            "outcome": "unmet",
            "error": str(error)[:400],
            "plan_s": round(time.process_time() - begin, 1),
        }
    except Exception as error:
        return error_of(error)
    found = {
        "plan_s": round(time.process_time() - begin, 1),
        "planned": round(one.macs_left / one.macs, 4),
        "notes": list(one.notes)[:6],
    }
    masked = copy.deepcopy(model)
    named = dict(masked.named_parameters())
    # As every method cuts: the units that go take along what reads them.
    masks = one.support({name: named[name] for name in one.names})
    for name, mask in (masks | one.implied(masks, named)).items():
        named[name].mul_(mask)
    try:
        small = compact(masked, x, graph=case.graph)
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


@torch.no_grad()
def as_published(case):
    """A published configuration: half of its units, at random, and the proof of what comes out."""
    from espalier.compaction import compact

    model, x = case.model, case.x
    begin = time.process_time()
    graph = case.graph
    found = {"unit_share": round(share(model, graph), 4)}
    found["graph_s"] = round(time.process_time() - begin, 1)
    ids = [unit.id for group in graph.removable for unit in group.units]
    graph.zero_(model, random.Random(SEED).sample(ids, len(ids) // 2), consumers=False)
    begin = time.process_time()
    small = compact(model, x)  # as it is called: with a graph of its own
    found |= {
        "compact_s": round(time.process_time() - begin, 1),
        "zeroed": len(ids) // 2,
        "removed": small.removed,
        "parameters": [small.before.parameters, small.after.parameters],
        "proof": [small.proof.difference, small.proof.scale],
    }
    for what, here in (("at_size", x), ("at_another", resized(model, x))):
        found[what] = {"shapes": [list(t.shape) for t in here.values()]}
        found[what]["difference"] = apart(model, small.model, here, seeds=1)
    return found


PARTS = {
    "random": at_random,
    "plan": by_plan,
    "torch_pruning": lambda case: beside.pruned(case.model, case.x),
    "published": as_published,
}
USUAL = ("random", "plan", "torch_pruning")


def one(name, parts, send):
    """What is asked of one model; what is known is sent after every part."""
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    try:
        model, x = made(name)
        enliven_(model, x)
    except Exception as error:
        send({"random": {"outcome": "absent", "error": str(error)[:300]}})
        return
    size = next(iter(x.values())).shape[-1] if isinstance(x, dict) else x.shape[-1]
    send({"size": size, "of": sum(p.numel() for p in model.parameters())})
    case = Case(model, x)
    for what in parts:
        try:
            send({what: PARTS[what](case)})
        except Exception as error:
            send({what: error_of(error)})


def aside(name, parts, seconds):
    """One model in a process of its own, forked with the libraries imported."""
    here, there = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=limited, args=(name, parts, there.send, seconds))
    process.start()
    there.close()
    found = {}
    try:
        while here.poll(10 * seconds):  # a machine with other work to do is not the model's fault
            found |= here.recv()
        process.kill()
    except EOFError:
        pass  # it is done, or it died
    process.join()
    missing = [what for what in parts if what not in found]
    if missing and found.get("random", {}).get("outcome") != "absent":
        late = process.exitcode in (-signal.SIGXCPU, -signal.SIGKILL)
        slow = {"outcome": "slow", "error": f"not done in {seconds} s"}
        found[missing[0]] = slow if late else {"outcome": "raw", "error": str(process.exitcode)}
    return found


def limited(name, parts, send, seconds):
    used = int(time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, used + seconds + 5))
    one(name, parts, send)


def summary(models):
    done = {n: m for n, m in models.items() if m["random"]["outcome"] != "absent"}
    outcomes = {
        what: dict(Counter(m[what]["outcome"] for m in done.values() if what in m))
        for what in USUAL
    }
    names = {
        what: {
            kind: [n for n, m in done.items() if m.get(what, {}).get("outcome") == kind]
            for kind in sorted(outcomes[what].keys() - {"right", "agrees"})
        }
        for what in ("random", "plan")
    }
    return {"models": len(done), "outcomes": outcomes, "names": names}


def source():
    """Which state of what is measured: a digest of the packages that decide it."""
    import espalier

    root = Path(espalier.__file__).parent
    files = [f for p in MEASURED for f in sorted((root / p).rglob("*.py"))]
    return sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:12]


def hardware():
    names = [
        x.partition(":")[2].strip()
        for x in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in x
    ]
    return {"cpu": names[0] if names else platform.processor(), "threads": 1}


def warmed():
    """Imports once what every model needs, and has the slow first call behind it."""
    vision()
    import timm  # noqa: F401
    import torch_pruning  # noqa: F401
    import transformers  # noqa: F401

    from espalier.compaction import compact

    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    compact(model, torch.randn(1, 3, 8, 8))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help="library:name; all by default")
    parser.add_argument("--parts", nargs="+", choices=USUAL, default=USUAL)
    parser.add_argument("--real", action="store_true", help="the published transformers")
    parser.add_argument("--seconds", type=int, default=180, help="processor seconds a model")
    parser.add_argument("--again", action="store_true", help="also what has a result")
    parser.add_argument("--unsettled", action="store_true", help="also what is not right")
    parser.add_argument("--stale", action="store_true", help="also what another source gave")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    found = json.loads(RESULT.read_text()) if RESULT.exists() else {"models": {}, "published": {}}
    rows = found["published" if given.real else "models"]
    warmed()
    for name in given.models or ([f"real:{n}" for n in REAL] if given.real else NAMES):
        row = rows.setdefault(name, {})
        parts = ("published",) if given.real else given.parts
        again = given.again or (given.stale and row.get("source") != source())
        parts = [p for p in parts if again or wanted(row, p, given.unsettled)]
        if not parts:
            continue
        row |= aside(name, parts, given.seconds) | {"source": source()}
        found |= {
            "seed": SEED,
            "version": version("espalier"),
            "versions": {p: version(p) for p in PACKAGES},
            "hardware": hardware(),
            "summary": summary(found["models"]),
        }
        RESULT.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
        print(name, {p: brief(row.get(p, {})) for p in parts}, flush=True)
    print(json.dumps(found.get("summary"), indent=1))


def wanted(row, part, unsettled):
    """Is this part of a model still to be measured?"""
    if row.get("random", {}).get("outcome") == "absent":
        return False
    outcome = row.get(part, {}).get("outcome")
    return part not in row or (unsettled and outcome not in ("right", "agrees", "other", "norms"))


def brief(part):
    keys = ("outcome", "unit_share", "planned", "real", "graph_s", "compact_s", "plan_s", "error")
    return " ".join(str(part[k])[:120] for k in keys if k in part)


if __name__ == "__main__":
    main()
