"""``espalier methods | models | data | recipes``: what there is, one line for each."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

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


def recipes(
    folder: Annotated[
        Path, typer.Argument(help="Where recipes lie; the folders in it count.")
    ] = Path("recipes"),
    counts: Annotated[
        bool,
        typer.Option(
            "--counts", help="Count what each published row's plan leaves, beside the paper's rate."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List recipes, and for those of a paper's row the rate and the figure printed there."""
    from espalier.recipe._published import ours, recipes_in, rows

    known = recipes_in(folder)
    found: dict[str, dict[str, str]] = {"recipes": {}, "rows of papers": {}}
    planned = {row.file: row for row in rows(known)} if counts else {}
    for file, recipe in known.items():
        said = recipe.published
        text = recipe.title
        if said is not None:
            text = f"{said.paper}, {said.row}: {said.rate}×, {said.figure}"
        row = planned.get(file)
        if row is not None and row.plan is not None:
            count = getattr(row.plan.counts(), row.said.counts)
            text += f"; ours {ours(row.said, row.plan)}× ({count.nonzero:,} of {count.total:,} {row.said.counts})"
        found["recipes" if said is None else "rows of papers"][file] = text
    _show({name: members for name, members in found.items() if members}, as_json)


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
                "torchvision:NAME": "Any of torchvision.models.list_models(); arguments of its builder",
                "timm:NAME": "Any of timm.list_models(); arguments of timm.create_model",
                "transformers:CLASS": "Any model class; arguments of its configuration, or pretrained: "
                "a folder or a repository of safetensors",
                "package.module:function": "Your own, returning a torch.nn.Module",
            }
        },
        as_json,
    )


def data(as_json: AsJson = False) -> None:
    """List the data sets and tasks by name, and where to get their data."""
    from espalier import tasks
    from espalier.data import NAMES

    found = {name: f"{info.description} ({info.source})" for name, info in NAMES.items()}
    _show(
        {
            "data.name": {
                **found,
                "package.module:function": "Your own, returning an espalier.data.Split",
            },
            "task.name": {
                **{
                    name: f"{info.description} ({info.source})"
                    for name, info in tasks.NAMES.items()
                },
                "package.module:function": "Your own, returning an espalier.tasks.Task",
            },
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
