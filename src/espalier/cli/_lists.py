"""``espalier methods | models | data``: what there is, one line for each."""

from collections.abc import Mapping
from typing import Any

from espalier._ground.registry import family
from espalier.cli._output import AsJson, console, print_json


def methods(as_json: AsJson = False) -> None:
    """List methods, sets and other choices, by their names in recipes."""
    from espalier.recipe import _methods as families

    found: dict[str, Mapping[str, str]] = {
        "solver.method": _sentences(families.SOLVERS),
        "solver.estimator": _sentences(families.ESTIMATORS),
        "solver.metric": _sentences(families.METRICS),
        "solver.continuation": _sentences(families.CONTINUATIONS),
        "solver.rho_schedule": _sentences(families.RHO_SCHEDULES),
        "plan.set": _sentences(families.SETS),
        "plan.allocation": {
            **{n: _first_line(rule) for n, rule in families.RULES.items()},
            **_sentences(families.ALLOCATIONS),
        },
        "training.optimiser": _sentences(families.OPTIMISERS),
        "training.schedule": _sentences(families.SCHEDULES),
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
                "package.module:function": "Your own, returning a torch.nn.Module",
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
                "package.module:function": "Your own, returning an espalier.data.Split",
            }
        },
        as_json,
    )


def _sentences(sections: Mapping[str, Any]) -> dict[str, str]:
    """By name what each is, in its own words; last, what one of your own is called."""
    own = f"Your own, derived from {_base(sections)}"
    return {
        **{name: _begun(section.target.sentence) for name, section in sections.items()},
        "package.module:Name": own,
    }


def _base(sections: Mapping[str, Any]) -> str:
    base = family(next(iter(sections.values())).target)
    return f"{base.__module__.rpartition('.')[0]}.{base.__name__}"


def _first_line(thing: Any) -> str:
    return _begun((thing.__doc__ or "").strip().split("\n", 1)[0].replace("``", ""))


def _begun(sentence: str) -> str:
    """With a capital and without a stop, whether it stands as a sentence of its own or in prose.

    >>> _begun("the plain norm."), _begun("ρ grows by a factor")
    ('The plain norm', 'ρ grows by a factor')
    """
    first, rest = sentence[:1], sentence[1:].removesuffix(".")
    return (first.upper() if first.isascii() else first) + rest


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
