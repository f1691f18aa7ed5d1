"""The tables of ``results/families.json``: how many, which not, and transformers as published."""

import json
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

from markup import markdown

RESULT = Path(__file__).parent / "results" / "families.json"
LIBRARIES = ("torchvision", "timm", "transformers")
RANDOM = ("right", "partly", "none", "refused", "wrong", "raw", "slow")
PLAN = ("agrees", "differs", "unmet", "refused", "wrong", "raw", "slow")
BESIDE = ("right", "norms", "other", "none", "failed")


def families_table() -> str:
    """How many models of every library come out how, and Torch-Pruning's beside them."""
    rows = []
    for library in (*LIBRARIES, ""):
        models = [
            m for n, m in _measured().items() if n.startswith(f"{library}:" if library else "")
        ]
        counts = {
            what: Counter(m[what]["outcome"] for m in models if what in m)
            for what in ("random", "plan", "torch_pruning")
        }
        shares = [m["random"]["unit_share"] for m in models if "unit_share" in m["random"]]
        seconds = [m["random"]["compact_s"] for m in models if "compact_s" in m["random"]]
        row = [library or "all", str(len(models)), _listed(counts["random"], RANDOM)]
        row += [f"{median(shares):.3f}", f"{median(seconds):.1f} ({max(seconds):.1f})"]
        row += [_listed(counts["plan"], PLAN), _listed(counts["torch_pruning"], BESIDE)]
        rows.append(row)
    heads = [
        "library",
        "models",
        "half of the units",
        "unit share, median",
        "seconds of `compact`, median (most)",
    ]
    return markdown([*heads, "half of the MACs, real against planned", "Torch-Pruning"], rows)


def exceptions_table() -> str:
    """Every model of ours that is not right, or whose plan is not kept."""
    rows = []
    for name, m in sorted(_measured().items()):
        random, planned = m["random"], m.get("plan", {})
        if random["outcome"] == "right" and planned.get("outcome") == "agrees":
            continue
        figures = f"{planned['planned']:.3f} → {planned['real']:.3f}" if "real" in planned else "–"
        why = random.get("error") or planned.get("error")
        why = why or "; ".join([*random.get("kept_back", {}), *planned.get("kept_back", {})])
        why = why.replace("\n", " ").replace("|", "\\|")[:160]
        outcomes = [random["outcome"], planned.get("outcome", "–")]
        rows.append([name, *outcomes, figures, why])
    heads = ["model", "half of the units", "half of the MACs", "planned → real", "why"]
    return markdown(heads, rows) if rows else "None."


def published_table() -> str:
    """Transformers in their published sizes: reach, proof and seconds."""
    rows = []
    for name, m in _found()["published"].items():
        one = m["published"]
        if "unit_share" not in one:
            rows.append([name.partition(":")[2], one["outcome"], *["–"] * 6])
            continue
        before, after = one["parameters"]
        rows.append(
            [name.partition(":")[2], f"{before / 1e6:.1f} M", f"{after / 1e6:.1f} M", f"{one['unit_share']:.3f}"]
            + [f"{one['proof'][0] / one['proof'][1]:.1e}"]
            + [f"{one[k]['difference']:.1e} at {_shape(one[k])}" for k in ("at_size", "at_another")]
            + [f"{one['graph_s']:.1f}", f"{one['compact_s']:.1f}"]
        )  # fmt: skip
    heads = ["configuration", "parameters", "compact", "unit share", "proof's error"]
    heads += ["float64 error", "at another size", "seconds of the graph", "seconds of `compact`"]
    return markdown(heads, rows)


def conditions() -> str:
    """On what, with which versions, and of which state of the sources (``families.source``)."""
    found = _found()
    sources = Counter(m["source"] for m in (*_measured().values(), *found["published"].values()))
    states = ", ".join(f"{digest} ({n})" for digest, n in sorted(sources.items()))
    packages = ", ".join(f"{p} {v}" for p, v in found["versions"].items())
    machine = f"{found['hardware']['cpu']}, {found['hardware']['threads']} thread"
    return f"{packages}; {machine}. Sources, and how many models of each: {states}."


def _shape(one: dict[str, Any]) -> str:
    return " and ".join("×".join(map(str, s)) for s in one["shapes"])


def _listed(counts: Counter[str], order: tuple[str, ...]) -> str:
    return ", ".join(f"{counts[k]} {k}" for k in order if counts[k]) or "–"


def _measured() -> dict[str, Any]:
    return {n: m for n, m in _found()["models"].items() if m["random"]["outcome"] != "absent"}


def _found() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULT.read_text())
    return found
