"""The page's sentences and facts: what was asked and what was got, in words and single figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from espalier.report import _numbers as numbers
from espalier.report import _tables as tables
from espalier.report._groups import Comparison
from espalier.report._runs import DENSE, Run, named
from espalier.report._tables import STAGES
from espalier.tasks import Goal

_STAGE_NOTES = {
    "dense": "before pruning",
    "hard_pruned": "cut, nothing trained after",
    "hard_pruned_bn": "cut, no weight trained after",
    "retrained": "cut, trained with zeros held",
}


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One figure on the ladder from dense to what is handed back."""

    stage: str
    value: str
    note: str
    change: str


def title(runs: Sequence[Run]) -> str:
    """Models and data sets of the page."""
    models = " and ".join(dict.fromkeys(run.model for run in runs))
    data = " and ".join(dict.fromkeys(run.data for run in runs))
    return f"{models} on {data}"


def sentence(words: str) -> str:
    """A clause as a sentence.

    >>> sentence("nothing goes")
    'Nothing goes.'
    """
    return words[:1].upper() + words[1:] + "." * (not words.endswith("."))


def verdict(run: Run) -> str:
    """What the certificate says of the run, and what had been said before it began."""
    result = run.result or {}
    advice = (result.get("certificate") or {}).get("advice") or ()
    return " ".join(filter(None, [str(result.get("sentence") or ""), *map(sentence, advice)]))


def lead(comparison: Comparison) -> str:
    """What happened, in one or two sentences with its figures."""
    groups = comparison.groups
    if len(groups) == 1 and len(groups[0].runs) == 1:
        return _lead_of_one(groups[0].runs[0])
    ranked = []
    for group in groups:
        found = group.mean(lambda run: run.final("hard_pruned"))
        if found is not None and group.method != DENSE:
            ranked.append((found.mean, group.phrase))
    n = sum(len(group.runs) for group in groups)
    what = f"{n} runs in {len(groups)} settings."
    if len(groups) == 1:
        what = f"{n} runs of {groups[0].label} that differ in their seed."
    if len(groups) > 1 and n == len(groups):
        what = f"{n} runs in {n} settings, one seed each, so that differences may be chance."
    if not ranked:
        return f"{what} None has been cut yet."
    goal = comparison.goal
    ranked.sort(key=lambda pair: pair[0], reverse=goal.higher_is_better)
    best = numbers.figure(ranked[0][0], goal)
    first = [phrase for value, phrase in ranked if numbers.figure(value, goal) == best]
    # A bare number does not say what it is; per cent and units do.
    best = best if goal.unit else f"{goal.name} {best}"
    if len(first) == len(ranked) > 1:
        return f"{what} Cut and not retrained, all have {best}."
    leaders = " and ".join([", ".join(first[:-1]), first[-1]] if first[1:] else first)
    told = f"{what} Cut and not retrained, {leaders} {'have' if first[1:] else 'has'} {best}"
    last = f"{ranked[-1][1]} {numbers.figure(ranked[-1][0], goal)}"
    ends = ("most", "least") if goal.higher_is_better else ("lowest", "highest")
    if len(ranked) == 1:
        return f"{told}."
    return (
        f"{told} and {last}."
        if len(ranked) == 2
        else f"{told}, the {ends[0]}, and {last}, the {ends[1]}."
    )


def _lead_of_one(run: Run) -> str:
    goal = run.goal
    cut, dense, retrained = (run.final(s) for s in ("hard_pruned", "dense", "retrained"))
    if run.result is None:
        told = "This run is unfinished: it has no result yet."
        if cut is not None:
            told += f" Cut at its last evaluation, its {goal.name} was {numbers.figure(cut, goal)}."
        return told
    headline = tables.headline(run)
    told = f"{run.method} pruned {run.model}"
    if headline is not None:
        told += f" {numbers.ratio(headline[1])}"
    if cut is None:
        return f"{told}."
    told += f". Cut and not retrained, its {goal.name} is {numbers.figure(cut, goal)}"
    if dense is not None:
        told += f", {_beside_dense(dense, cut, goal)}"
    if retrained is not None:
        told += f"; after masked retraining, {numbers.figure(retrained, goal)}"
    return f"{told}."


def _beside_dense(dense: float, cut: float, goal: Goal) -> str:
    if goal.unit == "fraction":
        how = "below" if dense >= cut else "above"
        return f"{abs(100 * (dense - cut)):.2f} points {how} dense"
    told = numbers.change(dense, cut, goal)
    return f"{told} {'as' if told == 'the same' else 'than'} dense"


def ladder(run: Run) -> list[Rung]:
    """The figures the run has, from dense to retrained, and what each lost."""
    dense, goal = run.final("dense"), run.goal
    rungs = []
    for stage, label in STAGES:
        value = run.final(stage)
        if value is not None:
            beside = None if stage == "dense" else dense
            change = "" if beside is None else numbers.change(beside, value, goal)
            note = _STAGE_NOTES[stage] if goal.unit else f"{goal.name}, {_STAGE_NOTES[stage]}"
            told = numbers.figure(value, goal)
            rungs.append(Rung(stage=label, value=told, note=note, change=change))
    return rungs


def compression(run: Run) -> tuple[str, str, str] | None:
    """The headline compression: the ratio, the counts, the convention."""
    headline = tables.headline(run)
    if headline is None:
        return None
    convention, value = headline
    counted = run.got("counts")[convention]
    of = f"{numbers.count(counted.get('nonzero'))} of {numbers.count(counted.get('total'))} left"
    return numbers.ratio(value), of, tables.CONVENTIONS.get(convention, convention)


def facts(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """What was asked: each fact once, all its values if the runs that prune differ."""
    told = []
    pruned = [run for run in runs if run.method != DENSE]
    for label, of in _FACTS:
        values = list(dict.fromkeys(filter(None, map(of, pruned or runs))))
        if values:
            more = f" and {len(values) - 4} more" if len(values) > 5 else ""
            told.append((label, "; ".join(values[: 4 if more else 5]) + more))
    return told


def _budget(run: Run) -> str:
    plan = run.recipe.get("plan") or run.recipe.get("budget")
    if not isinstance(plan, Mapping):
        return "" if plan is None else str(plan)
    told = []
    for key in ("compression", "density", "sparsity", "macs"):
        if plan.get(key) is not None:
            value = plan[key]
            told.append(numbers.ratio(value) if key == "compression" else f"{key} {value}")
    if isinstance(plan.get("keep"), Mapping):
        keeps = [str(keep) for keep in plan["keep"].values()]
        told.append("keep " + " / ".join(keeps[:6]) + (" …" if len(keeps) > 6 else ""))
    told += [named(plan[key]).replace("_", " ") for key in ("set", "allocation") if plan.get(key)]
    return ", ".join(told)


def _training(run: Run) -> str:
    return ", ".join(
        f"{phase.get('phase')} {phase['epochs']} epoch{'s' * (phase['epochs'] != 1)} "
        f"({numbers.count(phase.get('steps'))} steps)"
        for phase in run.phases
        if phase.get("epochs")
    )


_FACTS = (
    ("method", lambda run: run.method),
    ("model", lambda run: run.model),
    ("data", lambda run: run.data),
    ("figures on", lambda run: f"the {run.split} set"),
    ("budget", _budget),
    ("training", _training),
    ("seed", lambda run: "" if run.seed is None else str(run.seed)),
)
