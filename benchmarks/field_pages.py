"""Tables and plots of fields, from ``results/field.jsonl``: what each method came to, in pairs, and for what cost."""

import json
from pathlib import Path
from typing import Any

from field import HERE, read, rows
from markup import markdown

from espalier._ground.documents import parse_yaml
from espalier._ground.interval import Interval, interval

Row = dict[str, Any]
DOCS = HERE.parent / "docs" / "results"
STAGES = ("hard_pruned", "delivered")


def field_of(name: str) -> dict[str, Any]:
    """A field by its name."""
    return read(HERE / "fields" / f"{name}.yaml")


def finals(name: str) -> dict[str, list[Row]]:
    """The runs on test images of each method, by seed; the best median first."""
    found = {method: _by_seed(name, method) for method in field_of(name)["methods"]}
    ranked = sorted(found.items(), key=lambda item: -_mean(item[1], "delivered"))
    return {method: runs for method, runs in ranked if runs}


def _by_seed(name: str, method: str) -> list[Row]:
    """The last run of each of the field's seeds."""
    seeds = field_of(name)["seeds"]
    runs = [
        r
        for r in rows(name)
        if (r["method"], r["kind"]) == (method, "final") and r["number"] in seeds
    ]
    return sorted({r["number"]: r for r in runs}.values(), key=lambda r: int(r["number"]))


def _mean(runs: list[Row], figure: str) -> float:
    return sum(r[figure] for r in runs) / len(runs) if runs else 0.0


def field_table(name: str) -> str:
    """A row a method: what it came to on the test images, as cut and at the end, its sizes and costs."""
    body = []
    for method, runs in finals(name).items():
        trials = [r for r in rows(name) if r["method"] == method and r["kind"] == "trial"]
        best = max((t["delivered"] for t in trials), default=None)
        body.append(
            [
                method, str(len({t["number"] for t in trials})), "—" if best is None else f"{100 * best:.2f}",
                *(_shown(interval([r[stage] for r in runs])) for stage in STAGES), str(len(runs)),
                _range([r["nonzero"] for r in runs]), f"{runs[0]['compression']:.1f}×",
                f"{100 * _mean(runs, 'macs'):.1f}", f"{_mean(runs, 'bytes'):,.0f}",
                f"{_mean(runs, 'gradients'):,.0f}", f"{_mean(runs, 'seconds'):.0f}",
            ]
        )  # fmt: skip
    heads = [
        "method",
        "trials",
        "best trial, held out, %",
        "as cut, %",
        "after retraining, %",
        "seeds",
    ]
    heads += ["weights left", "compression", "MACs, %", "packed, bytes", "gradients", "seconds"]
    return markdown(heads, body)


def paired_table(name: str) -> str:
    """The difference of each method from the first of the table, seed by seed, with its interval."""
    found = finals(name)
    first, *others = found
    body = []
    for method in others:
        cells = []
        for stage in STAGES:
            pairs = _pairs(found[first], found[method], stage)
            cells.append(_shown(interval(pairs), sign=True))
        pairs = _pairs(found[first], found[method], "delivered")
        body.append([f"{first} − {method}", *cells, str(len(pairs)), _verdict(interval(pairs))])
    return markdown(["difference, points", "as cut", "after retraining", "seeds", "reads as"], body)


def _pairs(one: list[Row], other: list[Row], stage: str) -> list[float]:
    theirs = {r["number"]: r[stage] for r in other}
    return [r[stage] - theirs[r["number"]] for r in one if r["number"] in theirs]


def _verdict(found: Interval | None) -> str:
    if found is None or found.half_width is None:
        return "one seed: nothing"
    return "ahead" if abs(found.mean) > found.half_width else "not told apart"


def _shown(found: Interval | None, *, sign: bool = False) -> str:
    if found is None:
        return "—"
    mean = f"{100 * found.mean:+.2f}" if sign else f"{100 * found.mean:.2f}"
    return mean if found.half_width is None else f"{mean} ± {100 * found.half_width:.2f}"


def _range(counts: list[int]) -> str:
    return (
        f"{min(counts):,}" if min(counts) == max(counts) else f"{min(counts):,} to {max(counts):,}"
    )


def settings_table(name: str) -> str:
    """What the trials of each method could change, and the settings that were chosen."""
    field = field_of(name)
    body = []
    for method, runs in finals(name).items():
        tune = field["methods"][method].get("tune", {})
        chosen = runs[0]["settings"]
        body.append([method, "; ".join(f"{key} = {_at(chosen, key)}" for key in tune) or "—"])
    return markdown(["method", "chosen on the held-out images"], body)


def _at(settings: Any, key: str) -> str:
    for part in key.split("."):
        settings = settings.get(part, settings) if isinstance(settings, dict) else settings
    return f"{settings:.3g}" if isinstance(settings, float) else str(settings)


def front(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The Pareto front of (cost, accuracy): those that no other beats in one and equals in the other.

    >>> front([(3, 0.9), (1, 0.7), (2, 0.7), (2, 0.8), (4, 0.85)])
    [(1, 0.7), (2, 0.8), (3, 0.9)]
    """
    found: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (point[0], -point[1])):
        if not found or y > found[-1][1]:
            found.append((x, y))
    return found


def plot(title: str, names: list[str]) -> Path:
    """Accuracy against compression, packed bytes and multiply-accumulates, a point a run, the Pareto front joined."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"svg.hashsalt": "espalier", "svg.fonttype": "none", "font.size": 9})
    axes_of = {
        "compression": "compression of weights, ×",
        "bytes": "packed file, bytes",
        "macs": "multiply-accumulates left, %",
    }
    figure, axes = pyplot.subplots(1, 3, figsize=(12, 4), sharey=True)
    methods = list(dict.fromkeys(method for name in names for method in finals(name)))
    for axis, (key, label) in zip(axes, axes_of.items(), strict=True):
        for number, method in enumerate(methods):
            runs = [r for name in names for r in finals(name).get(method, [])]
            x = [100 * r[key] if key == "macs" else r[key] for r in runs]
            y = [100 * r["delivered"] for r in runs]
            axis.scatter(
                x,
                y,
                s=22,
                color=f"C{number % 10}",
                marker="os^Dv"[number // 10],
                label=method,
                alpha=0.75,
            )
        every = [r for name in names for runs in finals(name).values() for r in runs]
        sign, unit = (-1 if key == "compression" else 1), (100 if key == "macs" else 1)
        best = front([(sign * r[key], r["delivered"]) for r in every])
        axis.plot(
            [sign * unit * x for x, _ in best],
            [100 * y for _, y in best],
            color="0.5",
            lw=0.8,
            zorder=0,
        )
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("accuracy on test images, %")
    figure.suptitle(title)
    axes[-1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    DOCS.mkdir(exist_ok=True)
    path = DOCS / f"{title.lower().replace(' ', '-')}.svg"
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
    return path


def published_table(_: str) -> str:
    """What papers print, our runs beside it, and why they differ."""
    body = []
    for said in parse_yaml((HERE / "published.yaml").read_text()):
        runs = (
            _by_seed(said["field"], said["method"])
            if "field" in said
            else _dual_averaging(said["rda"])
        )
        ours, left = interval([r["delivered"] for r in runs]), [r["compression"] for r in runs]
        cells = (
            [f"{_shown(ours)} %", f"{_mean(runs, 'compression'):.1f}×"]
            if left
            else ["not run", "—"]
        )
        body.append(
            [
                said["paper"],
                said["what"],
                said["published"],
                *cells,
                str(len(runs)),
                said["why"].strip(),
            ]
        )
    return markdown(
        ["paper", "what", "published", "ours", "compression", "seeds", "why they differ"], body
    )


def _dual_averaging(setting: str) -> list[Row]:
    """Runs of ``rda_zeros.py`` from the field's start."""
    held = json.loads((HERE / "results" / "rda_zeros.json").read_text())["rows"]
    runs = [r for r in held if r.get("setting") == setting and r.get("pretrain") == "field"]
    return [
        {"delivered": r["accuracy"], "compression": 1 / max(1e-9, 1 - r["zeros"]["all"])}
        for r in runs
    ]


TABLES = {
    "published": published_table,
    "field": field_table,
    "paired": paired_table,
    "settings": settings_table,
}
"""What a marker ``<!-- table KIND.FIELD -->`` stands for."""

PLOTS = {"Handwritten digits": "digits-", "LeNet-5 on MNIST": "lenet5-"}
"""By title the fields whose names begin so."""


def plots() -> list[Path]:
    """All of them, of the fields that have runs."""
    every = sorted(path.stem for path in (HERE / "fields").glob("*.yaml"))
    chosen = {
        title: [n for n in every if n.startswith(p) and finals(n)] for title, p in PLOTS.items()
    }
    return [plot(title, names) for title, names in chosen.items() if names]
