"""The last part of a run: how many bits, a solver towards the levels, gradual freezing."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer

from espalier.models import load_weights
from espalier.methods._pruning import Pruning
from espalier.methods import Freezing, Quantisation, quantise_plan
from espalier.search import search_bits
from espalier.search._bits import fc_first
from espalier.solvers import OneShot, Solver
from espalier.tasks import Task
from espalier.runs._cutting import cut_, note
from espalier.training._evaluation import evaluate_cut
from espalier.runs._folder import RunFolder
from espalier.training._handle import Handle
from espalier.training._loop import FitResult
from espalier.training._optimizers import Training

PHASES = ("quantise", "freeze")

Train = Callable[[str, Training, Handle], FitResult]


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


@dataclass(frozen=True, kw_only=True)
class FreezeGradually:
    """Freeze the weights on their levels part by part, as :class:`~espalier.methods.Freezing` does.

    Args:
        training: How the free ones train meanwhile.
        rounds: How often a part is frozen, >= 1.
        fraction: Of a level's free weights frozen in a round, in (0, 1].
    """

    training: Training
    rounds: int = 8
    fraction: float = 0.3


@dataclass(frozen=True, kw_only=True)
class Quantise:
    """How the survivors of a pruned model are quantised.

    Args:
        bits: One count for the weights of convolutions and linear layers, a count by name or glob, or
            how to search them.
        solver: By which dynamics they reach their levels; one that does not settle.
        training: How to train meanwhile; zero epochs project at once.
        freeze: Gradual freezing after that; None: what is off its level is projected at once.
    """

    bits: int | Mapping[str, int] | SearchBits
    solver: Solver
    training: Training
    freeze: FreezeGradually | None = None


def quantise_(
    run: RunFolder,
    model: nn.Module,
    task: Task,
    how: Quantise,
    train: Train,
    optimizers: Mapping[str, Optimizer],
    reached: str | None,
) -> Quantisation:
    """Quantise a pruned model; what came of it is in the run's notes.

    Args:
        run: Gets ``pruned.safetensors`` (the weights before) and ``quantisation.json`` (the bits, and how
            they were found), from which a resume goes on.
        model: Changed in place.
        task: What to train on.
        how: The settings.
        train: Trains one phase, by its name.
        optimizers: By phase.
        reached: The phase a resume goes on with; None: there is nothing of this yet.

    Returns:
        The constraint that the weights meet now.
    """
    if reached is None:
        run.write_weights("pruned.safetensors", model.state_dict())
        run.write_json("quantisation.json", _bits(model, task, how.bits))
    else:
        load_weights(model, run / "pruned.safetensors")  # its zeros; fit restores the rest
    chosen = json.loads((run / "quantisation.json").read_text(encoding="utf-8"))
    target = quantise_plan(model, chosen["bits"])
    handle: Handle = Pruning(model, target, how.solver, optimizers["quantise"])
    if reached != "freeze":
        note(run, train("quantise", how.training, handle))
    if how.freeze is not None:
        steps = how.freeze.training.epochs * task.steps_per_epoch
        handle = Freezing(
            model, target, optimizers["freeze"],
            steps=steps, rounds=how.freeze.rounds, fraction=how.freeze.fraction,
        )  # fmt: skip
        note(run, train("freeze", how.freeze.training, handle))
    cut_(run, model, task, handle, "quantised")
    run.notes["quantisation"] = {
        **chosen,
        "bits": target.bits,
        "steps": target.steps(dict(model.named_parameters())),
        "data_bits": target.data_bits,
    }
    return target


def _bits(
    model: nn.Module, task: Task, bits: int | Mapping[str, int] | SearchBits
) -> dict[str, Any]:
    """The bits by name, and the search that found them."""
    if not isinstance(bits, SearchBits):
        return {"bits": quantise_plan(model, bits).bits, "search": None}

    def evaluate(tried: Mapping[str, int]) -> float:
        handle = Pruning(model, quantise_plan(model, tried), OneShot())
        cut, cut_bn = evaluate_cut(model, task, handle)
        return (cut_bn or cut)[task.goal_metric]

    found = search_bits(
        fc_first(model, quantise_plan(model, bits.high).names),
        evaluate,
        reference=task.evaluate(model)[task.goal_metric],
        **asdict(bits),
    )
    return {"bits": dict(found.bits), "search": found.to_dict()}
