"""A level field: every method from the same start, for the same epochs, tuned by the same number of trials.

    export ESPALIER_DATA=FOLDER                                    # holds mnist/, cifar10/
    python benchmarks/field.py fields/lenet5-300x.yaml tune        # trials, judged on held-out training images
    python benchmarks/field.py fields/lenet5-300x.yaml final       # the chosen settings on every seed, on test images
    python benchmarks/tables.py                                    # docs/results from the result file

A field says what its methods share (``recipe``), the dense training from which all start (``start``), how
many epochs a method has (``epochs``: pruning and retraining together, gradients counted, so that an epoch of
sharpness-aware steps is two), how many trials it may spend on its settings (``trials``) and the seeds. A
method says its own settings and ``tune``: which of them the trials may change, and within what. The first
trial is the settings as written, the others are asked of Optuna; ``trial`` may make them cheaper, alike for
all methods (fewer images). The best on the held-out images is run on all images, once a seed, and judged on
the test images, which no choice has seen.

Every run that has ended is a line of ``results/field.jsonl`` with its settings; it is not run again. One that was
stopped goes on in its folder (``--out``).
"""

import argparse
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from gather import alike, deciding
from torch import nn

from espalier._ground.documents import parse_yaml
from espalier._ground.environment import environment
from espalier.measure import layer_costs
from espalier.packing import pack
from espalier.recipe import Recipe, override, validate
from espalier.recipe._building import make_model, make_task, make_training, use_threads
from espalier.recipe._running import Job, run
from espalier.runs import Result, RunOptions, Stage, run_stages
from espalier.search import OneOf, Optuna, Real, Whole
from espalier.training import show_progress

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "field.jsonl"
DOMAINS = {"real": Real, "whole": Whole}

Content = dict[str, Any]


def read(path: Path) -> Content:
    """A field, with its name."""
    return {"name": path.stem, **parse_yaml(path.read_text())}


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> Content:
    """Sections of ``other`` over those of ``one``; None takes one out."""
    found = dict(one)
    for key, value in other.items():
        inner = found.get(key)
        both = isinstance(value, Mapping) and isinstance(inner, Mapping)
        found[key] = merged(inner, value) if both else value  # type: ignore[arg-type]
    return {key: value for key, value in found.items() if value is not None}


def content_of(
    field: Content, method: str, tuned: Mapping[str, Any], *, trial: bool, seed: int
) -> Content:
    """The recipe of one run: what all share, the method's own, what a trial changed."""
    content = merged(field["recipe"], field["methods"][method].get("recipe", {}))
    if trial:
        content = merged(content, field.get("trial", {}))
    for name, value in tuned.items():
        content = override(content, f"{name}={json.dumps(value)}")
    own = {"training": {"seed": seed}, "data": {"validation": field["validation"]} if trial else {}}
    return merged(content, own)


def cost(recipe: Recipe) -> int:
    """Epochs of gradients of pruning and retraining."""
    phases = [recipe.training] + [recipe.training.of(p) for p in (recipe.retrain,) if p is not None]
    return sum((phase.epochs or 0) * (2 if phase.sam else 1) for phase in phases)


def started(field: Content, content: Content, out: Path) -> Content:
    """The same with the dense weights that all methods of this seed and split begin with."""
    if not field.get("start"):
        return content  # from random weights
    shared = {name: content[name] for name in ("model", "data")}
    plain = {**field["recipe"]["training"], "seed": content["training"]["seed"], **field["start"]}
    dense = validate({**shared, "training": plain, "plan": {"density": 1.0}})
    split = "validation" if dense.data is not None and dense.data.validation else "test"
    place = out / "starts" / f"{field.get('starts', field['name'])}-{split}-seed{plain['seed']}"
    if not (place / "result.json").is_file():
        use_threads(dense)
        task = make_task(dense)
        model = fast(make_model(dense, task.model_arguments))
        stage = Stage(name="start", training=make_training(dense, dense.training))
        with show_progress(goal=task.goal) as on_event:
            run_stages(
                model, task, [stage], place, resume=True, options=RunOptions(on_event=on_event)
            )
    name = content["model"] if isinstance(content["model"], str) else content["model"]["name"]
    return {**content, "model": {"name": name, "weights": str(place / "weights.safetensors")}}


def fast(model: nn.Module) -> nn.Module:
    """The layout in which a processor convolves fastest; the figures are the same up to rounding."""
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def measured(job: Job, result: Result) -> Content:
    """Figures, sizes and costs of a run that has ended; its model holds the weights it ended with."""
    costs, count = layer_costs(job.model, job.task.example_input), result.counts["conv_fc_weights"]
    nonzeros = {n: int(job.model.get_parameter(n).count_nonzero()) for n in costs}
    with TemporaryDirectory() as place:
        size = pack(Path(place) / "packed", job.model).file_bytes
    return {
        **{name: result.figure(name) for name in ("dense", "hard_pruned", "hard_pruned_bn", "retrained")},
        "delivered": (result.delivered or {}).get(result.goal.name), "split": result.split,
        "nonzero": count.nonzero, "compression": count.compression, "layers": nonzeros,
        "macs": costs.after(nonzeros) / costs.total, "bytes": size,
        "steps": sum(s.steps for s in result.stages), "gradients": sum(s.gradients or s.steps for s in result.stages),
        "seconds": round(sum(s.seconds for s in result.stages), 1), "outcome": result.outcome,
        "note": (result.certificate.why if result.certificate else ""),
    }  # fmt: skip


def rows(field: str | None = None) -> list[Content]:
    """The runs that have ended, of one field or of all."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    found = [json.loads(line) for line in lines]
    return [row for row in found if field in (None, row["field"])]


def ended(
    field: Content, method: str, kind: str, number: int, content: Content, out: Path
) -> Content:
    """A run, or what is written of it."""
    recipe = validate(content, f"{field['name']}: {method}")
    settings = deciding(recipe.settings())
    for row in rows(field["name"]):
        same = (row["method"], row["kind"], row["number"]) == (method, kind, number)
        if same and alike(row["settings"], json.loads(json.dumps(settings))):
            return row
    allowed = field["methods"][method].get("epochs", field["epochs"])
    if cost(recipe) != allowed:
        raise SystemExit(
            f"{field['name']}: {method} takes {cost(recipe)} epochs; the field has {allowed}"
        )
    whole = started(field, content, out)
    job = Job.prepare(validate(whole), whole)
    fast(job.model)
    folder = out / field["name"] / f"{method.replace(chr(32), '-')}-{kind}{number}"
    with show_progress(goal=job.task.goal) as on_event:
        found = run(job, folder, resume=True, on_event=on_event)
    row = {
        "field": field["name"], "method": method, "kind": kind, "number": number,
        **measured(job, found.result), "settings": settings, **environment(),
    }  # fmt: skip
    row.pop("arguments")
    with RESULTS.open("a") as file:
        file.write(json.dumps(row) + "\n")
    return row


def trials(field: Content, method: str, count: int, out: Path) -> Iterator[tuple[float, Content]]:
    """What every trial of a method came to on held-out images, and what it had changed."""
    space = {name: _domain(said) for name, said in field["methods"][method].get("tune", {}).items()}
    search = Optuna(space=space, trials=count - 1, seed=0).begin() if space and count > 1 else None
    tuned: Content | None = {}
    for number in range(count):
        if number:
            tuned = search.ask() if search else None
        if tuned is None:
            return
        content = content_of(field, method, tuned, trial=True, seed=field.get("trial_seed", 0))
        score = ended(field, method, "trial", number, content, out)["delivered"]
        if number and search:
            search.tell(tuned, score)
        yield score, tuned


def _domain(said: Any) -> Any:
    return (
        OneOf(tuple(said)) if isinstance(said, list) else DOMAINS[said.pop("kind", "real")](**said)
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("field", type=Path)
    parser.add_argument("what", choices=("start", "tune", "final"))
    parser.add_argument("--methods", nargs="+", help="by default all of the field")
    parser.add_argument("--seeds", type=int, nargs="+", help="by default those of the field")
    parser.add_argument(
        "--trials", type=int, help="by default as many as the field gives each method"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/field"))
    given = parser.parse_args()
    os.environ.setdefault("ESPALIER_DATA", "data")
    path = given.field if given.field.exists() else HERE / given.field
    seeds, names = given.seeds or read(path)["seeds"], given.methods or list(read(path)["methods"])
    _all(path, given.what, names, seeds, given.trials, given.out)


def _all(
    path: Path, what: str, names: Sequence[str], seeds: Sequence[int], count: int | None, out: Path
) -> None:
    for name in names:
        field = read(path)
        known = list(trials(field, name, count or field["trials"], out)) if what != "start" else []
        print(name, [f"{100 * score:.2f}" for score, _ in known], flush=True)
        chosen = max(known, key=lambda pair: pair[0])[1] if known else {}
        for seed in seeds if what != "tune" else ():
            content = content_of(field, name, chosen, trial=False, seed=seed)
            if what == "start":
                started(field, content, out)
                continue
            row = ended(field, name, "final", seed, content, out)
            print(
                name,
                seed,
                row["hard_pruned"],
                row["retrained"],
                row["nonzero"],
                row["seconds"],
                flush=True,
            )


if __name__ == "__main__":
    main()
