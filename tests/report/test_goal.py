"""A page of runs that are judged by another figure than accuracy: its unit, and which way is better."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from espalier.report import write_report
from espalier.report._groups import Comparison, compare
from espalier.report._numbers import change, figure, half_width
from espalier.report._runs import Run, read_run
from espalier.report._smaller import smaller
from espalier.report._tables import level_field
from espalier.report._words import ladder, lead
from espalier.report.figures import Key, curves, styles_for
from espalier.report.figures._ablation import ablation
from espalier.tasks import Goal
from report.conftest import dump

Make = Callable[..., Path]
PERPLEXITY = Goal(name="perplexity", unit="", higher_is_better=False)
ERRORS = Goal(name="wrong", unit="errors", higher_is_better=False)
WRONG = Goal(name="wrong", unit="fraction", higher_is_better=False)
THIN = "\u202f"


def told(figures: Any, goal: Goal, of: Callable[[float], float]) -> Any:
    """Metrics under the goal's name in place of accuracy."""
    if not isinstance(figures, dict) or "accuracy" not in figures:
        return figures
    rest = {name: value for name, value in figures.items() if name != "accuracy"}
    return {**rest, goal.name: of(figures["accuracy"])}


def judged(run: Path, goal: Goal, of: Callable[[float], float], **final: float) -> Path:
    """The run as if its task had that goal; ``final`` are its figures by stage."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    lines = [{key: told(value, goal, of) for key, value in event.items()} for event in lines]
    (run / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in lines))
    if (run / "result.json").is_file():
        result = json.loads((run / "result.json").read_text())
        result = {key: told(value, goal, of) for key, value in result.items()}
        result |= {stage: {goal.name: value} for stage, value in final.items()}
        dump(run / "result.json", result | {"version": 2, "goal": asdict(goal)})
    return run


@pytest.fixture
def perplexed(make_run: Make) -> Make:
    """A run judged by perplexity: 8.2 dense, then as told."""

    def make(*args: Any, hard_pruned: float = 9.25, **options: Any) -> Path:
        run = make_run(*args, tensors=False, **options)
        figures = {"dense": 8.2, "hard_pruned": hard_pruned, "retrained": 8.0}
        return judged(run, PERPLEXITY, lambda accuracy: 8.1 / accuracy, **figures)

    return make


def page_of(*runs: Path) -> str:
    return write_report(runs, runs[0].parent / "report.html").read_text(encoding="utf-8")


def table_of(comparison: Comparison) -> Any:
    styles = styles_for(comparison.groups)
    keys = [Key(label="", style=style) for style in styles]
    return level_field(comparison, keys)


def test_a_finished_run_says_what_it_is_judged_by(make_run: Make, perplexed: Make) -> None:
    assert read_run(perplexed()).goal == PERPLEXITY
    assert read_run(make_run(tensors=False)).goal == Goal()  # of version 0.1


def test_an_unfinished_run_is_judged_by_what_its_metrics_let_one_guess(make_run: Make) -> None:
    run = make_run(tensors=False, finished=False)
    assert read_run(run).goal == Goal()
    perplexity = read_run(judged(run, PERPLEXITY, lambda accuracy: 8.1 / accuracy)).goal
    assert (perplexity.name, perplexity.unit) == ("perplexity", "")
    run = make_run(tensors=False, finished=False)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for event in lines:
        if "metrics" in event:
            event["metrics"] = {"loss": 0.5}
    (run / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in lines))
    assert read_run(run).goal == Goal(name="loss", unit="", higher_is_better=False)


def test_an_unfinished_run_beside_a_finished_one_is_judged_by_its_goal(
    make_run: Make, perplexed: Make
) -> None:
    open_end = make_run("admm", tensors=False, finished=False)
    runs = [read_run(judged(open_end, PERPLEXITY, lambda accuracy: 8.1 / accuracy))]
    runs.append(read_run(perplexed()))
    comparison = compare(runs)
    assert comparison.goal == PERPLEXITY
    assert {run.goal for group in comparison.groups for run in group.runs} == {PERPLEXITY}


@pytest.mark.parametrize(
    ("goal", "value", "half", "before", "words"),
    [
        (Goal(), f"98.12{THIN}%", "98.12", 0.99, "−0.88 points"),
        (WRONG, f"98.12{THIN}%", "98.12", 0.99, "−0.88 points"),
        (PERPLEXITY, "0.9812", "0.9812", 0.5, "0.4812 worse"),
        (ERRORS, f"0.9812{THIN}errors", "0.9812", 2, f"1.019{THIN}errors better"),
        (replace(PERPLEXITY, higher_is_better=True), "0.9812", "0.9812", 0.5, "0.4812 better"),
    ],
)
def test_figures_and_changes_are_in_the_unit_of_the_goal(
    goal: Goal, value: str, half: str, before: float, words: str
) -> None:
    assert figure(0.98124, goal) == value
    assert half_width(0.98124, goal) == half
    assert change(before, 0.98124, goal) == words


def test_no_figure_is_a_dash_in_every_unit() -> None:
    assert figure(None, PERPLEXITY) == figure(float("nan"), Goal()) == "–"


def test_a_difference_that_is_only_rounding_is_none() -> None:
    assert change(8.1, 8.1 + 1e-12, PERPLEXITY) == "the same"


def test_the_lead_of_one_run_says_worse_or_better_than_dense(
    perplexed: Make, make_run: Make
) -> None:
    def said(path: Path) -> str:
        return lead(compare([read_run(path)])).replace(THIN, " ")

    worse = "its perplexity is 9.25, 1.05 worse than dense; after masked retraining, 8."
    assert worse in said(perplexed())
    assert "is 8, 0.2 better than dense;" in said(perplexed(hard_pruned=8.0))
    assert "is 8.2, the same as dense;" in said(perplexed(hard_pruned=8.2))
    errors = judged(make_run(), ERRORS, lambda a: a, dense=101, hard_pruned=12345, retrained=90)
    assert "its wrong is 12,345 errors, 1.224e+04 errors worse" not in said(errors)
    assert "its wrong is 12,345 errors, 12,244 errors worse than dense" in said(errors)
    still = make_run(finished=False)
    judged(still, PERPLEXITY, lambda accuracy: 9.0)
    assert "Cut at its last evaluation, its perplexity was 9." in said(still)


def test_the_ladder_has_the_unit_and_worse_or_better(perplexed: Make) -> None:
    rungs = [(rung.value, rung.note, rung.change) for rung in ladder(read_run(perplexed()))]
    assert rungs == [
        ("8.2", "perplexity, before pruning", ""),
        ("9.25", "perplexity, cut, nothing trained after", "1.05 worse"),
        ("8", "perplexity, cut, trained with zeros held", "0.2 better"),
    ]


def test_the_lowest_leads_where_lower_is_better(perplexed: Make) -> None:
    pair = [perplexed("slr", hard_pruned=9.25), perplexed("admm", hard_pruned=8.5)]
    runs = [read_run(run) for run in pair]
    assert lead(compare(runs)).endswith("ADMM has perplexity 8.5 and SLR 9.25.")
    runs.append(read_run(perplexed("oneshot", hard_pruned=4000)))
    ends = "ADMM has perplexity 8.5, the lowest, and One-shot magnitude 4000, the highest."
    assert lead(compare(runs)).endswith(ends)


def test_the_lowest_mean_is_bold_where_lower_is_better(perplexed: Make) -> None:
    pairs = (("slr", 9.25), ("admm", 8.0), ("admm", 9.0))
    paths = [perplexed(m, n, hard_pruned=cut) for n, (m, cut) in enumerate(pairs)]
    table = table_of(compare([read_run(path) for path in paths]))
    column = table.heads.index("hard-pruned")
    cells = [row[column] for row in table.rows]
    assert [(cell.text, cell.strong) for cell in cells] == [("9.25", False), ("8.5", True)]
    assert cells[1].note == "± 6.353"  # t(0.975, 1) = 12.706, times 0.5, in perplexity
    end = "Bold: the lowest mean of its column. The figure is perplexity; lower is better."
    assert table.caption.endswith(end)


def test_a_fraction_to_be_low_stays_in_per_cent(make_run: Make) -> None:
    runs = []
    for method, cut in (("slr", 0.02), ("admm", 0.01)):
        run = make_run(method, tensors=False)
        runs.append(judged(run, WRONG, lambda a: 1 - a, dense=0.005, hard_pruned=cut))
    comparison = compare([read_run(run) for run in runs])
    table = table_of(comparison)
    cells = [row[table.heads.index("hard-pruned")] for row in table.rows]
    assert [(cell.text.replace(THIN, " "), cell.strong) for cell in cells] == [
        ("2.00 %", False), ("1.00 %", True),
    ]  # fmt: skip
    first = lead(compare([read_run(runs[0])])).replace(THIN, " ")
    assert "its wrong is 2.00 %, 1.50 points above dense" in first
    assert "If cut now, %" in page_of(*runs)


def test_the_compact_model_is_told_in_the_unit_of_the_goal(perplexed: Make) -> None:
    run: Run = replace(
        read_run(perplexed()),
        compact={
            "metrics": {"perplexity": 8.125},
            "purification": {"test": {"before": 8.0, "after": 8.125}},
        },
    )
    remarks = smaller(run, "x").remarks
    assert remarks[0].endswith("perplexity on the test set 8 before, 8.125 after.")
    assert remarks[1] == "The compact model's perplexity on the test set: 8.125."


def test_curves_are_named_and_scaled_by_the_goal(perplexed: Make) -> None:
    runs = [read_run(perplexed())]
    comparison = compare(runs)
    drawn = curves(comparison, styles_for(comparison.groups))
    assert ">Perplexity while pruning<" in drawn[0].svg
    assert ">Perplexity in masked retraining<" in drawn[-1].svg
    assert drawn[0].caption.startswith("Test perplexity of the network as it trains")
    for drawing in drawn:
        assert "ccuracy" not in drawing.caption
        assert "%" not in drawing.svg.replace("100%", "")
    runs.append(read_run(perplexed("admm")))
    comparison = compare(runs)
    drawn = curves(comparison, styles_for(comparison.groups))
    assert ">If cut now, perplexity<" in drawn[0].svg


def test_a_figure_over_decades_has_a_logarithmic_axis(make_run: Make) -> None:
    run = judged(make_run(tensors=False), PERPLEXITY, lambda a: 8.0 if a > 0.9 else 9000.0)
    comparison = compare([read_run(run)])
    (first, *_) = curves(comparison, styles_for(comparison.groups))
    assert "logarithmic" not in first.caption
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    next(e for e in lines if e.get("hard_pruned"))["hard_pruned"]["perplexity"] = 9000.0
    (run / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in lines))
    comparison = compare([read_run(run)])
    (first, *_) = curves(comparison, styles_for(comparison.groups))
    assert first.caption.endswith("The axis is logarithmic.")
    assert ">10³<" in first.svg


def test_a_band_that_goes_below_zero_does_not_hinder_a_logarithmic_axis(make_run: Make) -> None:
    runs = []
    for seed, cut in enumerate((8.0, 9000.0)):  # the interval of two seeds so far apart is negative
        run = make_run(seed=seed, tensors=False)
        runs.append(judged(run, PERPLEXITY, lambda a, high=cut: 8.0 if a > 0.99 else high))
    lines = curves(
        comparison := compare([read_run(r) for r in runs]), styles_for(comparison.groups)
    )
    assert "logarithmic" in lines[0].caption


def test_the_ablation_is_of_the_goal(perplexed: Make) -> None:
    runs = [read_run(perplexed(rho=rho, hard_pruned=400 * rho)) for rho in (1.0, 2.0)]
    drawing = ablation(compare(runs))
    assert drawing is not None
    assert ">Perplexity after the hard prune<" in drawing.svg
    assert drawing.caption.startswith("Final perplexity, cut")
    assert ">800<" in drawing.svg  # not clipped at 100, not a hundred times as much


def test_the_page_has_no_word_of_accuracy_or_points(perplexed: Make) -> None:
    page = page_of(perplexed(), perplexed("admm"), perplexed("oneshot"))
    assert "ccuracy" not in page.replace('id="accuracy', "").replace("#accuracy", "")
    assert "points" not in page.split("</style>", 1)[1]
    alone = page_of(perplexed()).split("</style>", 1)[1]
    assert "points" not in alone
    assert "1.05 worse" in alone
