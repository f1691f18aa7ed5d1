"""Where a stage's constraint comes from: a plan, or the survivors of a pruned model and their bits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge
from torch import nn

from espalier._ground.described import described, digest
from espalier._ground.files import read_mapping
from espalier._ground.ranges import Checked
from espalier.errors import CheckpointError, RequestError, RunFolderError
from espalier.methods import Pruning
from espalier.models import load_weights
from espalier.planning import Plan, quantise_plan
from espalier.runs._folder import RunFolder
from espalier.runs._stage import Stage
from espalier.search import fc_first, search_bits
from espalier.sets import Constraint, OnLevels
from espalier.solvers import OneShot, Rounds
from espalier.tasks import Task
from espalier.training import evaluate_cut


@dataclass(frozen=True)
class Planned:
    """A plan, kept as ``plan.yaml``: once that is written, it is the plan.

    Attributes:
        plan: It; or how to plan once the weights are those of the stage's start.
        first: The plan for the weights as they are now, if one was made: the run is rehearsed with it.
        settings: What it is made from, as plain data: a run goes on with the same. Without them the plan itself
            says it, and of a function its name.
    """

    plan: Plan | Callable[..., Plan]
    first: Plan | None = None
    settings: Mapping[str, Any] | None = None

    @property
    def source(self) -> Any:
        """What the plan is made from, as plain data."""
        if self.settings is not None:
            return dict(self.settings)
        return digest(self.plan.to_dict()) if isinstance(self.plan, Plan) else described(self.plan)

    def described(self) -> str:
        """The file: which plan it is, is asked once for the whole run."""
        return "plan.yaml"

    def preview(self, model: nn.Module) -> Plan | None:
        """The plan, if there is one without looking at the weights."""
        return self.plan if isinstance(self.plan, Plan) else self.first

    def decide(self, run: RunFolder, model: nn.Module, task: Task) -> Plan:
        """Plan, unless that is done, and write the plan."""
        if (run / "plan.yaml").is_file():
            # Made in this run, and for these weights; a plan that was measured would not come out the same.
            return self.recall(run, model)
        plan = self.plan if isinstance(self.plan, Plan) else self.plan(model)
        plan.save(run.to_write("plan.yaml"))
        return plan

    def recall(self, run: RunFolder, model: nn.Module) -> Plan:
        """The plan as written."""
        return Plan.load(run / "plan.yaml")


@dataclass(frozen=True, kw_only=True)
class Round:
    """One of several equal cuts of what remains on the way to a plan: after j of n the density is d^{j/n}.

    Attributes:
        planned: The plan; decided in the first round.
        number: j, from 1.
        of: n.
    """

    planned: Planned
    number: int
    of: int

    def preview(self, model: nn.Module) -> Constraint | None:
        """The plan, opened as far as this round goes, if there is one without looking at the weights."""
        plan = self.planned.preview(model)
        return None if plan is None else self._opened(plan)

    def decide(self, run: RunFolder, model: nn.Module, task: Task) -> Constraint:
        """The plan, opened as far as this round goes."""
        if self.number == 1:
            self.planned.decide(run, model, task)
        return self.recall(run, model)

    def recall(self, run: RunFolder, model: nn.Module) -> Constraint:
        """The same."""
        return self._opened(self.planned.recall(run, model))

    def _opened(self, plan: Plan) -> Constraint:
        schedule = Rounds(rounds=self.of, until=1.0)
        return plan.opened(schedule.slack(self.number / self.of, plan.density))


def planned_of(stages: Sequence[Stage]) -> Planned | None:
    """What makes the plan of a run; None where nothing does.

    Raises:
        RequestError: More than one plan.
    """
    found = None
    for stage in stages:
        aim = getattr(stage.aim, "planned", stage.aim)  # of rounds and the like: what they approach
        if isinstance(aim, Planned) and aim != (found or aim):
            raise RequestError(
                f"stage {stage.name!r}: a run has one plan, and a stage before it has another; make two runs, "
                "the second of which starts by loading the first one's weights"
            )
        found = aim if isinstance(aim, Planned) else found
    return found


@dataclass(frozen=True, kw_only=True)
class SearchBits(Checked):
    """Find the bits of each layer before training towards them, by projecting alone.

    Args:
        guard: The largest drop of the goal metric that the projection alone may cost, a fraction.
        low: The fewest bits tried.
        high: The most.
    """

    guard: Annotated[float, Ge(0)] = 0.005
    low: Annotated[int, Ge(1)] = 1
    high: Annotated[int, Ge(1)] = 8


@dataclass(frozen=True)
class OnLevelsOf:
    """The survivors of the model as it is then, on levels.

    Keeps ``pruned.safetensors`` (the weights before) and ``quantisation.json`` (the bits, and how they
    were found).

    Attributes:
        bits: One count for the weights of convolutions and linear layers, a count by name or glob, or how
            to search them.
    """

    bits: int | Mapping[str, int] | SearchBits

    def preview(self, model: nn.Module) -> OnLevels:
        """All that the model has now, on as many levels as there may be: names and counts are looked at."""
        bits = self.bits
        return quantise_plan(model, bits.high if isinstance(bits, SearchBits) else bits)

    def decide(self, run: RunFolder, model: nn.Module, task: Task) -> OnLevels:
        """Read the zeros off the model, and find the bits."""
        run.write_weights("pruned.safetensors", model.state_dict())
        chosen = self._choose(model, task)
        run.write_json("quantisation.json", chosen)
        return quantise_plan(model, chosen["bits"])

    def recall(self, run: RunFolder, model: nn.Module) -> OnLevels:
        """The same constraint; the model's weights are those of before, until training restores its own."""
        load_weights(model, run / "pruned.safetensors")
        return quantise_plan(model, read_bits(run)["bits"])

    def _choose(self, model: nn.Module, task: Task) -> dict[str, Any]:
        bits = self.bits
        if not isinstance(bits, SearchBits):
            return {"bits": quantise_plan(model, bits).bits, "search": None}

        sign = 1.0 if task.goal.higher_is_better else -1.0  # the search wants higher to be better

        def evaluate(tried: Mapping[str, int]) -> float:
            handle = Pruning(model, quantise_plan(model, tried), OneShot())
            cut, cut_bn = evaluate_cut(model, task, handle)
            return sign * (cut_bn or cut)[task.goal.name]

        found = search_bits(
            fc_first(model, quantise_plan(model, bits.high).names),
            evaluate,
            reference=sign * task.evaluate(model)[task.goal.name],
            **asdict(bits),
        )
        return {"bits": dict(found.bits), "search": found.to_dict()}


def read_bits(run: RunFolder) -> dict[str, Any]:
    """``quantisation.json``.

    Raises:
        CheckpointError: It is damaged.
    """
    return read_decided(run / "quantisation.json", "bits", "search")


def read_decided(path: Path, *keys: str) -> dict[str, Any]:
    """What an aim has decided and written down, with these keys at least.

    Raises:
        CheckpointError: It is damaged.
    """
    try:
        content = dict(read_mapping(path))
        for key in keys:
            content[key]
    except (RunFolderError, KeyError) as error:
        raise CheckpointError(
            f"{path}: cannot be read: {error}; restore it from a copy, or begin anew in another folder"
        ) from error
    return content
