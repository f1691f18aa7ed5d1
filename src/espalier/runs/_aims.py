"""Where a stage's constraint comes from: a plan, or the survivors of a pruned model and their bits."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from espalier._ground.files import replacing
from espalier.errors import CheckpointError
from espalier.methods import Pruning
from espalier.models import load_weights
from espalier.planning import Plan, quantise_plan
from espalier.runs._folder import RunFolder
from espalier.search import fc_first, search_bits
from espalier.sets import Constraint, OnLevels
from espalier.solvers import OneShot, Rounds
from espalier.tasks import Task
from espalier.training import evaluate_cut


@dataclass(frozen=True)
class Planned:
    """A plan, kept as ``plan.yaml``.

    Attributes:
        plan: It; or how to plan once the weights are those of the stage's start.
    """

    plan: Plan | Callable[[nn.Module], Plan]

    def decide(self, run: RunFolder, model: nn.Module, task: Task) -> Plan:
        """Plan, unless that is done, and write the plan."""
        plan = self.plan if isinstance(self.plan, Plan) else self.plan(model)
        with replacing(run / "plan.yaml") as temporary:
            plan.save(temporary)
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

    def decide(self, run: RunFolder, model: nn.Module, task: Task) -> Constraint:
        """The plan, opened as far as this round goes."""
        if self.number == 1:
            self.planned.decide(run, model, task)
        return self.recall(run, model)

    def recall(self, run: RunFolder, model: nn.Module) -> Constraint:
        """The same."""
        plan = self.planned.recall(run, model)
        schedule = Rounds(rounds=self.of, until=1.0)
        return plan.opened(schedule.slack(self.number / self.of, plan.density))


@dataclass(frozen=True, kw_only=True)
class SearchBits:
    """Find the bits of each layer before training towards them, by projecting alone.

    Args:
        guard: The largest drop of the goal metric that the projection alone may cost, a fraction.
        low: The fewest bits tried.
        high: The most.
    """

    guard: float = 0.005
    low: int = 1
    high: int = 8


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
    path = run / "quantisation.json"
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        content["bits"], content["search"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: cannot be read: {error}; start anew in another folder"
        ) from error
    return content
