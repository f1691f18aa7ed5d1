"""``espalier compare``: several methods on a level field."""

import shlex
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from espalier.cli._output import AsJson, Settings, advise, console, print_json, resumable

if TYPE_CHECKING:
    from espalier._ground.events import Event
    from espalier.compare import Contestant

Recipes = Annotated[list[Path], typer.Argument(help="Recipes, YAML files.", show_default=False)]
Methods = Annotated[
    str | None,
    typer.Option(
        "--methods",
        help="slr,l0,oneshot …, and dense for training alone; by default those the recipe names.",
        show_default=False,
    ),
]
Seeds = Annotated[
    int | None, typer.Option("--seeds", min=1, help="Seeds per method.", show_default=False)
]
Published = Annotated[
    bool,
    typer.Option("--published-cadence", help="SLR once per epoch, ADMM once in ten, as published."),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", help="The folder of all runs; by default runs/compare-NAME.", show_default=False
    ),
]


def compare(
    recipe: Recipes,
    methods: Methods = None,
    seeds: Seeds = None,
    published_cadence: Published = False,
    settings: Settings = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Run several methods from the same start on the same data.

    All have the same model, data order, epochs, cadence and seeds.

    Runs in that folder that have ended are not repeated; one that was stopped is resumed.
    """
    from espalier.compare import goal_of, run_comparison
    from espalier.training import show_progress

    folder = out or Path("runs") / f"compare-{recipe[0].stem}"
    contest = _contest(recipe, settings or (), methods, seeds, published_cadence)
    if len({one.seed for one in contest}) == 1:
        advise(["one seed: differences may be chance; --seeds 3 gives an interval"])
    progress = show_progress(goal=goal_of(contest))
    with resumable(shlex.join(["espalier", *sys.argv[1:]])), progress as on_event:

        def tell(event: "Event") -> None:
            if event["event"] == "run":
                print(f"== {event['name']}", file=sys.stderr)
            else:
                on_event(event)

        found = run_comparison(contest, folder, on_event=tell)
    page = _report(found.runs, folder / "report.html")
    if as_json:
        print_json({**found.to_dict(), "report": page and str(page)})
        return
    screen = console()
    screen.print(found.table())
    for line in found.remarks():
        screen.print(line, markup=False)
    print(f"runs and compare.json: {folder}")
    print(f"report: {page}" if page else "report: none was written; pip install 'espalier[report]'")


def _contest(
    recipes: Sequence[Path],
    settings: Sequence[str],
    methods: str | None,
    seeds: int | None,
    published_cadence: bool,
) -> "list[Contestant]":
    from espalier.compare import contestants
    from espalier.recipe import load

    names = [name.strip() for name in methods.split(",")] if methods is not None else None
    found = []
    for path in recipes:
        recipe, content = load(path, settings)
        found += contestants(
            path.stem,
            recipe,
            content,
            methods=names,
            seeds=seeds,
            published_cadence=published_cadence,
            prefix=len(recipes) > 1,
        )
    return found


def _report(runs: Sequence[Path], page: Path) -> Path | None:
    if find_spec("matplotlib") is None or find_spec("jinja2") is None:
        return None
    from espalier.report import write_report

    return write_report(runs, page)
