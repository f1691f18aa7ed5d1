"""What each rank does: ``python cases.py FOLDER``, with the ranks' variables in the environment.

Rank 0 writes what every case found to FOLDER; the tests say what it must be.
"""

import json
import os
import sys
import traceback
import warnings
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, fully_shard

import espalier as esp
from espalier import budgets
from espalier._ground.world import ALONE, World
from espalier.errors import EspalierError
from espalier.methods import (
    L0,
    AutoPrune,
    Pruning,
    Setting,
    load_in_parts_,
    save_in_parts,
)
from espalier.metrics import Activations, AdamMoment, Fisher, Identity, Movement, Taylor
from espalier.sets import (
    Blocks,
    Channels,
    Columns,
    Filters,
    FiltersAndColumns,
    KernelPatterns,
    Kernels,
    NOfM,
    Unstructured,
)
from espalier.solvers import (
    ADMM,
    SLR,
    Constant,
    Gradual,
    OneShot,
    Penalty,
    RigL,
    SLRReleased,
    StagedRho,
)

STEPS, BATCH = 8, 8
RANK, SIZE = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
CASES = {}


def dense(start="random"):
    """Ten, six and three rows: no even shards on four ranks, and the last holds nothing of some."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 10), nn.ReLU(), nn.Linear(10, 6), nn.ReLU(), nn.Linear(6, 3))
    values = {"constant": lambda p: 0.3, "tied": lambda p: 0.1 * torch.randint_like(p, -2, 3)}
    with torch.no_grad():
        for p in model.parameters() if start in values else ():
            p.copy_(torch.as_tensor(values[start](p)))
    return model


def convolutions(start="random"):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, bias=False),
        nn.ReLU(),
        nn.Conv2d(6, 4, 3),
        nn.Flatten(),
        nn.Linear(16, 3),
    )


def batches(model, steps=range(STEPS)):
    shape = (2, 6, 6) if isinstance(model[0], nn.Conv2d) else (8,)
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        yield (
            torch.randn(BATCH, *shape, generator=generator),
            torch.randint(0, 3, (BATCH,), generator=generator),
        )


def whole(x):
    return (x.full_tensor() if hasattr(x, "placements") else x).detach().clone()


def sharded(model, mesh=None, **options):
    mesh = mesh or init_device_mesh("cpu", (SIZE,))
    fully_shard(model[2], mesh=mesh, **options)
    return fully_shard(model, mesh=mesh, **options)


def attached(model, world, solver=None, made=dense, coupled=False, planned=None, **settings):
    wanted = {"density": 0.4, "set": Unstructured(), "exclude": ["4.weight"], **(planned or {})}
    if coupled:
        wanted |= {"example_input": next(batches(made()))[0]}
    plan = esp.plan(made(), **wanted)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    settings = {"cadence": 2, "metric": Identity(), **settings}
    return Pruning(
        model, plan, solver or SLR(), optimizer, STEPS, world=world, advise=False, **settings
    )


def trained(model, pruning, part=(0, 1), steps=range(STEPS), loop=None):
    rank, size = part
    for x, y in batches(model, steps):
        x, y = (each.tensor_split(size)[rank] for each in (x, y))
        pruning.optimizer.zero_grad()
        loss = nn.functional.cross_entropy((loop or model)(x).float(), y)
        loss.backward()
        pruning.add_gradients_()
        pruning.optimizer.step()
        pruning.step(loss)


def outcome(model, pruning):
    """What a run came to, whole on every rank; a cut is its last act."""
    state = pruning._stored.state()
    multipliers = {n: whole(x) for n, x in getattr(state, "multiplier", {}).items()}
    if not pruning.masks:
        pruning.hard_prune_()
    certificate = pruning.certificate()
    return {
        "weights": {n: whole(p) for n, p in model.named_parameters()},
        "multipliers": multipliers,
        "outcome": certificate.outcome.value,
        "violation": certificate.total_violation,
        "lost": [f.total for f in certificate.forced],
        "conditions": [(u.condition_3, u.condition_8) for u in pruning.updates],
    }


def compared(alone, several):
    pairs = [
        (alone[what][n], several[what][n])
        for what in ("weights", "multipliers")
        for n in alone[what]
    ]
    return {
        "supports": all(
            torch.equal(w != 0, several["weights"][n] != 0) for n, w in alone["weights"].items()
        ),
        "difference": max(float((a - b).abs().max()) for a, b in pairs),
        "verdict": alone["outcome"] == several["outcome"],
        "conditions": alone["conditions"] == several["conditions"],
        "evidence": max(
            [abs(alone["violation"] - several["violation"])]
            + [abs(a - b) for a, b in zip(alone["lost"], several["lost"], strict=True)]
        ),
    }


def parity(kind, made=dense, start="random", prepared=sharded, **settings):
    """The same training on one rank and on all of them; what differs."""
    alone = made(start)
    pruning = attached(alone, ALONE, made=made, **settings)
    trained(alone, pruning)
    expected = outcome(alone, pruning)
    model = made(start)
    loop = nn.parallel.DistributedDataParallel(model) if kind == "ddp" else prepared(model)
    pruning = attached(model, None, made=made, **settings)
    trained(model, pruning, part=(RANK, SIZE), loop=loop)
    return compared(expected, outcome(model, pruning))


def case(name, sizes=(2,)):
    def add(function):
        if SIZE in sizes:
            CASES[name] = function
        return function

    return add


CONVOLUTIONS = {"*": Unstructured(), "0.*": KernelPatterns(), "2.*": NOfM(1, 2)}
VARIANTS = {
    "slr": {},
    "admm": {"solver": ADMM()},
    "admm-staged": {"solver": ADMM(rho_schedule=StagedRho(updates=2, stages=2))},
    "penalty": {"solver": Penalty()},
    "gradual": {"solver": Gradual()},
    "oneshot": {"solver": OneShot()},
    "slr-released": {"solver": SLRReleased()},
    "rigl": {"solver": RigL()},
    "rigl-random": {"solver": RigL(random_start=3)},
    "filters": {"planned": {"set": Filters()}},
    "channels": {"planned": {"set": Channels()}},
    "columns": {"planned": {"set": Columns()}},
    "n-of-m": {"planned": {"set": NOfM(1, 2)}},
    "blocks": {"planned": {"set": Blocks(1, 2)}},
    "kernels": {"made": convolutions, "planned": {"set": Kernels()}},
    "mixed": {"made": convolutions, "planned": {"set": CONVOLUTIONS}},
    "shared": {"planned": {"allocation": budgets.shared}},
    "shared-columns": {"planned": {"allocation": budgets.shared, "set": Columns()}},
    "coupled": {"coupled": True, "planned": {"set": Filters()}},
    "constant": {"start": "constant", "opening": Constant()},
    "tied": {"start": "tied", "opening": Constant()},
    "constant-columns": {"start": "constant", "opening": Constant(), "planned": {"set": Columns()}},
    "adam-metric": {"metric": AdamMoment()},
    "fisher-decoupled": {"metric": Fisher(), "decoupled": True},
    "activations": {"metric": Activations()},
    "movement": {"solver": Gradual(), "metric": Movement(), "planned": {"set": Filters()}},
    "taylor": {"solver": Gradual(), "metric": Taylor(), "planned": {"set": Filters()}},
}
ON_FOUR = ("slr", "rigl", "columns", "shared", "coupled", "constant", "tied", "constant-columns")
ON_DDP = ("slr", "rigl", "activations", "coupled")
for _name, _settings in VARIANTS.items():
    for _kind in ("fsdp", "ddp"):
        sizes = (2, 4) if _name in ON_FOUR else (2,)
        if _kind == "fsdp" or _name in ON_DDP:
            case(f"{_kind} {_name}", sizes)(
                lambda kind=_kind, settings=_settings: parity(kind, **settings)
            )


@case("fsdp cpu-offload")
def offloaded():
    policy = CPUOffloadPolicy(pin_memory=False)
    return parity("fsdp", prepared=lambda m: sharded(m, offload_policy=policy))


@case("fsdp input-axis")
def along_inputs():
    """Filters cut through by the shards, and channels in one."""
    from torch.distributed.tensor import Shard

    return parity(
        "fsdp", planned={"set": Filters()},
        prepared=lambda m: sharded(m, shard_placement_fn=lambda p: Shard(p.dim() - 1)),
    )  # fmt: skip


@case("hsdp", sizes=(4,))
def hybrid():
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
    return parity("fsdp", prepared=lambda m: sharded(m, mesh), planned={"set": Columns()})


@case("tensor-parallel")
def tensor_parallel():
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    alone, model = dense(), dense()
    expected = attached(alone, ALONE)
    trained(alone, expected)
    mesh = init_device_mesh("cpu", (SIZE,))
    parallelize_module(model, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
    pruning = attached(model, None)
    trained(model, pruning)  # all ranks see the whole batch
    return compared(outcome(alone, expected), outcome(model, pruning))


@case("mixed-precision")
def mixed_precision():
    model = dense()
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    sharded(model, mp_policy=policy)
    pruning = attached(model, None, planned={"set": Filters()})
    trained(model, pruning, part=(RANK, SIZE))
    found = outcome(model, pruning)
    supports = [(w != 0).int().tolist() for w in found["weights"].values()]
    told = World.current().gather(supports)
    return {
        "same": all(one == told[0] for one in told),
        "rows": [int(found["weights"][n].any(1).sum()) for n in ("0.weight", "2.weight")],
        "dtype": str(found["weights"]["0.weight"].dtype),
    }


def refusal(what):
    try:
        what()
    except EspalierError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was refused"


@case("refusals")
def refusals():
    def shard():
        return sharded(dense())

    def gates(method):
        model = shard()
        plan = esp.plan(dense(), density=0.4, exclude=["4.weight"])
        method.attach(model, plan, Setting(optimizer=lambda g: torch.optim.Adam(g), steps=STEPS))

    quantised = esp.plan(dense(), density=0.4, bits=2, exclude=["4.weight"])
    return {
        "l0": refusal(lambda: gates(L0())),
        "autoprune": refusal(lambda: gates(AutoPrune())),
        "filters-and-columns": refusal(
            lambda: attached(shard(), None, planned={"set": FiltersAndColumns()})
        ),
        "levels": refusal(lambda: Pruning(shard(), quantised, SLR(), advise=False)),
        "blocks": refusal(lambda: attached(shard(), None, planned={"set": Blocks(2, 2)})),
    }


@case("two-meshes", sizes=(4,))
def two_meshes():
    from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
    model = dense()
    parallelize_module(model, mesh["tensor"], {"0": ColwiseParallel()})
    fully_shard(model, mesh=mesh["data"])
    return {"refused": refusal(lambda: attached(model, None))}


@case("apart")
def apart():
    """Two ranks whose weights part at step 5, and that are told so at the tenth update."""
    model = dense()
    pruning = attached(model, None, cadence=1, settle=None)

    def train():
        for step in range(12):
            if step == 5 and RANK == 1:
                with torch.no_grad():
                    model[2].weight[0, 0] += 1e-3
            trained(model, pruning, steps=[step])

    return {"said": World.current().gather(refusal(train))}


@case("left-alone")
def left_alone():
    """Ranks that train models of their own say so."""
    model = dense()
    with torch.no_grad():
        model[0].weight.mul_(1 + RANK)
    trained(model, attached(model, ALONE, cadence=1, settle=None))
    return {}


# ---- saved on two ranks in the middle, gone on with on four and on one ----------------------------

HALF = 3  # between two updates, so that the loss of an interval has to come along too


@case("saved")
def saved():
    model = dense()
    sharded(model)
    pruning = attached(model, None)
    trained(model, pruning, part=(RANK, SIZE), steps=range(HALF))
    save_in_parts(pruning, FOLDER / "parts")
    full = {n: whole(p) for n, p in model.named_parameters()}
    moments = {
        n: {k: whole(v) for k, v in pruning.optimizer.state[p].items()}
        for n, p in model.named_parameters()
    }
    if RANK == 0:
        torch.save((full, moments), FOLDER / "rest.pt")
    trained(model, pruning, part=(RANK, SIZE), steps=range(HALF, STEPS))
    found = outcome(model, pruning)
    if RANK == 0:
        torch.save(found, FOLDER / "end.pt")
    return {"files": sorted({path.suffix for path in (FOLDER / "parts").iterdir()})}


def gone_on(prepared, part, world):
    from torch.distributed.tensor import distribute_tensor

    full, moments = torch.load(FOLDER / "rest.pt", weights_only=True)
    model = dense()
    model.load_state_dict(full)
    prepared(model)
    pruning = attached(model, world)
    for name, p in model.named_parameters():
        placed = {
            k: distribute_tensor(v, p.device_mesh, p.placements)
            if hasattr(p, "placements") and v.dim()
            else v
            for k, v in moments[name].items()
        }
        pruning.optimizer.state[p] = placed
    load_in_parts_(pruning, FOLDER / "parts")
    trained(model, pruning, part=part, steps=range(HALF, STEPS))
    return compared(torch.load(FOLDER / "end.pt", weights_only=True), outcome(model, pruning))


@case("resumed", sizes=(4,))
def resumed():
    several = gone_on(sharded, (RANK, SIZE), None)
    alone = gone_on(lambda model: model, (0, 1), ALONE) if RANK == 0 else None
    return {"four": several, "one": alone}


FOLDER = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    only = sys.argv[2:]
    found = {}
    for name, function in CASES.items():
        if only and name not in only:
            continue
        try:
            found[name] = function()
        except Exception:
            found[name] = {"error": traceback.format_exc()}
            dist.barrier()
    if RANK == 0:
        (FOLDER / f"found-{SIZE}.json").write_text(json.dumps(found))
    dist.destroy_process_group()
