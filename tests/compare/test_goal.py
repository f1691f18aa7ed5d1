"""A comparison carries the goal: its name, its unit and its direction, to the table and to compare.json."""

import io
from types import SimpleNamespace as Stand

import pytest
from rich.console import Console

from espalier._ground.interval import interval
from espalier.compare import ComparisonResult, Row, goal_of
from espalier.compare._result import rows_of
from espalier.tasks import Goal

PERPLEXITY = Goal(name="perplexity", unit="", higher_is_better=False)
ERRORS = Goal(name="wrong", unit="errors", higher_is_better=False)


def row(label, *cut):
    return Row(
        label=label, method=label, settings={}, seeds=tuple(range(len(cut))),
        metrics={"hard_pruned": interval(list(cut))}, compression=10.0, epochs=3,
        seconds=interval([1.25] * len(cut)), overhead=1.1,
    )  # fmt: skip


def shown(goal, *rows):
    file = io.StringIO()
    found = ComparisonResult(goal=goal, rows=rows, runs=())
    Console(file=file, width=160).print(found.table())
    return file.getvalue()


def test_fractions_are_shown_in_per_cent_as_ever():
    text = shown(Goal(), row("slr", 0.98, 0.99))
    assert text.splitlines()[0].strip() == "accuracy in %, mean over 2 seeds ± 95 % interval"
    assert " 98.50 ± 6.35 " in text
    assert " 1.2 ± 0.0 " in text  # seconds


@pytest.mark.parametrize(
    ("goal", "title"),
    [
        (PERPLEXITY, "perplexity, lower is better, one seed"),
        (ERRORS, "wrong in errors, lower is better, one seed"),
        (Goal(name="wrong", higher_is_better=False), "wrong in %, lower is better, one seed"),
        (Goal(name="reward", unit=""), "reward, one seed"),
    ],
)
def test_the_title_names_the_figure_its_unit_and_its_direction(goal, title):
    assert shown(goal, row("slr", 0.5)).splitlines()[0].strip() == title


def test_other_figures_are_shown_as_they_are():
    text = shown(PERPLEXITY, row("slr", 9.25), row("admm", 8.0, 9.0))
    assert " 9.25 " in text
    assert " 8.5 ± 6.353 " in text
    assert "%" not in text.split("\n", 1)[1]
    assert " 12,345 " in shown(ERRORS, row("slr", 12345))


def test_the_goal_goes_to_compare_json():
    written = ComparisonResult(goal=PERPLEXITY, rows=(row("slr", 9.25),), runs=()).to_dict()
    assert written["metric"] == "perplexity"
    assert written["goal"] == {"name": "perplexity", "unit": "", "higher_is_better": False}
    assert written["rows"][0]["metrics"]["hard_pruned"]["mean"] == 9.25


def test_a_row_has_the_figure_of_the_comparison_whatever_the_run_was_judged_by():
    def result(**figures):
        stages = dict.fromkeys(("dense", "hard_pruned_bn", "retrained"))
        return Stand(
            **stages, hard_pruned=figures, counts={"conv_fc_weights": Stand(compression=10.0)},
            pruning_epochs=3, pruning_seconds=1.0, goal=Goal(),
        )  # fmt: skip

    contest = [Stand(label=n, method=n, settings={}, seed=0) for n in ("slr", "admm")]
    results = [result(perplexity=9.25, accuracy=0.5), result(accuracy=0.5)]
    rows = rows_of(contest, results, PERPLEXITY, {})
    assert rows[0].metrics["hard_pruned"].mean == 9.25
    assert rows[1].metrics["hard_pruned"] is None


def test_the_goal_is_that_of_the_first_contestants_task(monkeypatch):
    tasks = {"first": Stand(goal=PERPLEXITY), "second": Stand(goal=Goal())}
    monkeypatch.setattr("espalier.compare._running.make_task", tasks.__getitem__)
    assert goal_of([Stand(recipe="first"), Stand(recipe="second")]) == PERPLEXITY
    assert goal_of([]) == Goal()
