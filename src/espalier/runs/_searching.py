"""Plans whose budgets are searched for: what a candidate is worth, and the trials that a run keeps."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from espalier._ground.types import Masks
from espalier.errors import CheckpointError
from espalier.methods._holding import as_if_cut
from espalier.planning import Plan
from espalier.runs._aims import Planned, read_decided
from espalier.runs._folder import RunFolder
from espalier.search import Keeps, Trial
from espalier.tasks import Goal, Task
from espalier.training import reestimated

SAMPLES = 2000
"""Training samples, without augmentation, on which a candidate is judged, at most."""

BATCHES = 10
"""Training batches on which the statistics of BatchNorm are measured anew for every candidate."""

FILE = "search.json"


@dataclass(frozen=True)
class Searched(Planned):
    """A plan whose budget is searched for, from the weights of the stage's start.

    Keeps ``search.json``, every trial; a run that was killed in the search tells them to it again. ``plan`` is a
    function of the model, the known trials, and what is to be called with all trials after each.
    """

    def decide(self, run: RunFolder, model: nn.Module, task: Task) -> Plan:
        """Search, unless that is done, and write the plan."""
        if (run / "plan.yaml").is_file():
            return self.recall(run, model)
        known = _read(run) if (run / FILE).is_file() else []

        def note(trials: Sequence[Trial[Keeps]]) -> None:
            run.write_json(FILE, {"trials": [[t.candidate, t.score] for t in trials]})

        assert not isinstance(self.plan, Plan)
        plan = self.plan(model, known, note)
        plan.save(run.to_write("plan.yaml"))
        return plan


def worth_of(model: nn.Module, task: Task) -> Callable[[Masks], float]:
    """−error of the model cut to masks, on training data; BatchNorm re-estimated, everything then as before."""
    figure = task.guard(SAMPLES)

    def worth(masks: Masks) -> float:
        with (
            as_if_cut(dict(model.named_parameters()), masks),
            reestimated(model, task.inputs("train", BATCHES)),
        ):
            return negative_error(task.goal, figure(model))

    return worth


def negative_error(goal: Goal, figure: float) -> float:
    """Higher is better, and 0 the best there can be where the goal has a best.

    >>> negative_error(Goal(), 0.75), negative_error(Goal(name="loss", unit="", higher_is_better=False), 2.0)
    (-0.25, -2.0)
    """
    if not goal.higher_is_better:
        return -figure
    return figure - 1.0 if goal.unit == "fraction" else figure


def _read(run: RunFolder) -> list[Trial[Keeps]]:
    """The trials of a search that was interrupted; a score that was NaN is null in JSON."""
    rows = read_decided(run / FILE, "trials")["trials"]
    try:
        return [Trial(dict(keep), math.nan if score is None else score) for keep, score in rows]
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{run / FILE}: holds no trials ({error}); begin anew in another folder"
        ) from error
