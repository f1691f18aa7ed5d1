"""``espalier methods | models | data``: what there is, a line each."""

from collections.abc import Mapping
from typing import Any

from espalier.cli._output import AsJson, console, print_json

# What the docstrings say in formulas, in words; a test asks for a line for every name.
_METHODS = {
    "slr": "Surrogate Lagrangian Relaxation: two guarded multiplier steps an update (IJCAI 2021)",
    "slr_released": "SLR as its authors' code runs it, for comparison with the published numbers only",
    "admm": "Alternating direction method of multipliers: one multiplier step an update (ECCV 2018)",
    "penalty": "ADMM without multipliers: a quadratic pull towards the nearest point of the set",
    "gradual": "Gradual magnitude pruning: cut a little, train on with the zeros held, cut again",
    "oneshot": "One-shot magnitude pruning: train as ever, cut once at the end",
}
_METRICS = {
    "identity": "the plain norm: the largest weights stay",
    "adam": "the root of Adam's second moment: what the optimiser can reach most cheaply; costs nothing",
    "fisher": "running mean of squared gradients: the rise of the loss to second order",
    "activations": "mean square of the input that a weight multiplies (convolutions and linear layers)",
}
_CONTINUATIONS = {
    "constant": "the plan's own budget from the first update on",
    "cubic": "from dense to the plan's budget, fast at first, by the fraction `until` of the run",
    "rounds": "in equal cuts of what remains, `rounds` of them, the last at `until`",
}


def methods(as_json: AsJson = False) -> None:
    """List solvers, metrics, schedules, sets and budget rules by the names recipes give them."""
    from espalier.recipe import _methods as families
    from espalier.recipe._building import ALLOCATIONS

    found: dict[str, Mapping[str, str]] = {
        "solver.method": _METHODS,
        "solver.metric": _METRICS,
        "solver.continuation": _CONTINUATIONS,
        "solver.rho_schedule": _described(families.RHO_SCHEDULES),
        "plan.set": _described(families.SETS),
        "plan.allocation": {n: _first_line(rule) for n, rule in ALLOCATIONS.items()},
        "training.optimiser": _described(families.OPTIMISERS),
        "training.schedule": _described(families.SCHEDULES),
    }
    _show(found, as_json)


def models(as_json: AsJson = False) -> None:
    """List the networks by name."""
    from espalier.models import NAMES

    found = {
        name: f"{info.description}; {info.parameters:,} parameters, input "
        f"{'×'.join(str(n) for n in info.input_shape)}"
        for name, info in NAMES.items()
    }
    _show(
        {
            "model.name": {
                **found,
                "package.module:function": "your own, returning a torch.nn.Module",
            }
        },
        as_json,
    )


def data(as_json: AsJson = False) -> None:
    """List the data sets by name, and where to get them."""
    from espalier.data import NAMES

    found = {name: f"{info.description} ({info.source})" for name, info in NAMES.items()}
    _show(
        {
            "data.name": {
                **found,
                "package.module:function": "your own, returning an espalier.data.Split",
            }
        },
        as_json,
    )


def _described(members: Mapping[str, Any]) -> dict[str, str]:
    return {name: _first_line(member) for name, member in members.items()}


def _first_line(thing: Any) -> str:
    return (
        (thing.__doc__ or "").strip().split("\n", 1)[0].replace("``", "").replace("\\*k", "kh, kw")
    )


def _show(found: Mapping[str, Mapping[str, str]], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    from rich.markup import escape
    from rich.table import Table

    out = console()
    for key, members in found.items():
        table = Table(
            title=key, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 2)
        )
        table.add_column(no_wrap=True, style="bold")
        table.add_column()
        for name, description in members.items():
            table.add_row(name, escape(description))
        out.print(table)
