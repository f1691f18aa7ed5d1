"""What a comparison found: one row per method, as a table, as JSON."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from espalier._ground.interval import Interval, interval
from espalier.compare._contest import DENSE, Contestant
from espalier.runs import Result
from espalier.tasks import Goal, JudgedOn

CONVENTION = "conv_fc_weights"
STAGES = ("dense", "hard_pruned", "hard_pruned_bn", "retrained")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method over all its seeds.

    Attributes:
        label: What it is called here.
        method: Its name.
        settings: Given beyond the method's defaults.
        seeds: In order.
        metrics: By stage (``dense`` at the start of pruning, ``hard_pruned`` before any retraining,
            ``hard_pruned_bn`` with BatchNorm re-estimated, ``retrained``) the goal's figure; None where
            there was no such stage.
        compression: In the convention ``conv_fc_weights``.
        epochs: Of pruning, rounds and all, those of sharpness-aware steps counted twice; pretraining and
            retraining not counted.
        seconds: Wall-clock time of them.
        overhead: Step time over that of dense training; None where there is nothing to add.
    """

    label: str
    method: str
    settings: Mapping[str, Any]
    seeds: tuple[int, ...]
    metrics: Mapping[str, Interval | None]
    compression: float | None
    epochs: int
    seconds: Interval | None
    overhead: float | None


@dataclass(frozen=True, kw_only=True)
class ComparisonResult:
    """All rows, and where the runs are.

    Attributes:
        goal: The figure that the methods are judged by.
        rows: A row a method.
        runs: The run folders.
        split: Of which data all figures are.
    """

    goal: Goal
    rows: tuple[Row, ...]
    runs: tuple[Path, ...]
    split: JudgedOn = "test"

    def to_dict(self) -> dict[str, Any]:
        """As ``compare.json`` has it."""
        return {
            "metric": self.goal.name,
            "goal": asdict(self.goal),
            "split": self.split,
            "convention": CONVENTION,
            "interval": "Student t, 95 %, over seeds",
            "rows": [{**asdict(row), "settings": dict(row.settings), "seeds": list(row.seeds)} for row in self.rows],
            "runs": [str(run) for run in self.runs],
        }  # fmt: skip

    def table(self) -> Table:
        """For a terminal."""
        seeds = max((len(row.seeds) for row in self.rows), default=0)
        many = f"mean over {seeds} seeds ± 95 % interval" if seeds > 1 else "one seed"
        held = ", on held-out training data" if self.split == "validation" else ""
        table = Table(title=f"{_named(self.goal)}{held}, {many}", title_justify="left")
        shown = [s for s in STAGES if any(row.metrics.get(s) for row in self.rows)]
        heads = {"dense": "at the start", "hard_pruned": "cut, no retraining",
                 "hard_pruned_bn": "cut, BatchNorm re-est.", "retrained": "retrained, zeros held"}  # fmt: skip
        table.add_column("method", no_wrap=True)
        table.add_column("left", justify="right")
        for stage in shown:
            table.add_column(heads[stage], justify="right")
        table.add_column("epochs", justify="right")
        table.add_column("seconds", justify="right")
        table.add_column("step / dense", justify="right")
        for row in self.rows:
            table.add_row(
                row.label,
                "–" if row.compression is None else f"1/{row.compression:.1f}",
                *(_figure(row.metrics.get(stage), self.goal) for stage in shown),
                str(row.epochs),
                _cell(row.seconds, "{:.1f}".format),
                "–" if row.overhead is None else f"{row.overhead:.3f}×",
            )
        return table

    def remarks(self) -> list[str]:
        """What the table does not say: the settings each method was given."""
        lines = []
        for row in self.rows:
            said = ", ".join(f"{key} {_short(value)}" for key, value in row.settings.items())
            said = "the same epochs, nothing pruned" if row.method == DENSE else said or "defaults"
            lines.append(f"{row.label}: {said}")
        return lines


def rows_of(
    contest: Sequence[Contestant],
    results: Sequence[Result],
    goal: Goal,
    overheads: Mapping[str, float],
) -> tuple[Row, ...]:
    """A row a label, in the order in which the labels came.

    Args:
        contest: Who competed.
        results: Of each.
        goal: Whose figure to take of each.
        overheads: By label.
    """
    together: dict[str, list[tuple[Contestant, Result]]] = {}
    for contestant, result in zip(contest, results, strict=True):
        together.setdefault(contestant.label, []).append((contestant, result))
    rows = []
    for label, members in together.items():
        first, one = members[0]
        own = [result for _, result in members]
        rows.append(
            Row(
                label=label,
                method=first.method,
                settings=first.settings,
                seeds=tuple(contestant.seed for contestant, _ in members),
                metrics={s: _over([_at(r, s, goal) for r in own]) for s in STAGES},
                compression=one.counts[CONVENTION].compression,
                epochs=one.pruning_epochs,
                seconds=_over([r.pruning_seconds for r in own]),
                overhead=overheads.get(label),
            )
        )
    return tuple(rows)


def _over(figures: Sequence[float | None]) -> Interval | None:
    return interval([figure for figure in figures if figure is not None])


def _at(result: Result, stage: str, goal: Goal) -> float | None:
    """The goal's figure, whatever the run itself was judged by: one table shows one figure."""
    return (getattr(result, stage) or {}).get(goal.name)


def _named(goal: Goal) -> str:
    """What the table's figures are.

    >>> _named(Goal()), _named(Goal(name="wrong", unit="errors", higher_is_better=False))
    ('accuracy in %', 'wrong in errors, lower is better')
    """
    unit = "%" if goal.unit == "fraction" else goal.unit
    lower = "" if goal.higher_is_better else ", lower is better"
    return goal.name + f" in {unit}" * bool(unit) + lower


def _figure(value: Interval | None, goal: Goal) -> str:
    """A cell without its unit, which the title names."""
    if goal.unit == "fraction":
        return _cell(value, lambda part: f"{100.0 * part:.2f}")
    return _cell(value, replace(goal, unit="").shown)


def _cell(value: Interval | None, told: Callable[[float], str]) -> str:
    if value is None:
        return "–"
    half = "" if value.half_width is None else f" ± {told(value.half_width)}"
    return f"{told(value.mean)}{half}"


def _short(value: Any) -> str:
    """A nested setting on one line: ``cubic(until 0.5)``."""
    if not isinstance(value, Mapping):
        return str(value)
    rest = ", ".join(f"{k} {_short(v)}" for k, v in value.items() if k != "method")
    name = str(value.get("method", ""))
    return f"{name}({rest})" if rest and name else name or rest
