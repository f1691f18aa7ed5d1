"""The lists of stages that most runs are."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from annotated_types import Ge

from espalier._ground.registry import Family
from espalier.methods import Constrained, GradualFreezing, KeepZeros, Method
from espalier.runs._aims import OnLevelsOf, Planned, Round, SearchBits
from espalier.runs._stage import Redraw, Rewind, Stage, Start
from espalier.solvers import Solver
from espalier.training import Training


@dataclass(frozen=True, kw_only=True)
class Procedure(Family, ABC):
    """What turns one pruning stage into several: a method whose way there is made of stages."""

    title: ClassVar[str]
    """Its name in prose, as tables and reports print it."""
    published_cadence: ClassVar[str | None] = None
    """As for methods; a list of stages has none."""

    @abstractmethod
    def stages(self, prune: Stage, seed: int) -> list[Stage]:
        """The stages in place of ``prune``, the last of which ends on its constraint."""


@dataclass(frozen=True, kw_only=True)
class Freeze:
    """Gradual freezing on the levels, part by part.

    Attributes:
        training: How the free weights train meanwhile.
        method: How much of them, how often.
    """

    training: Training
    method: GradualFreezing


@dataclass(frozen=True, kw_only=True)
class Quantise:
    """How the survivors of a pruned model are quantised.

    Attributes:
        bits: One count for the weights of convolutions and linear layers, a count by name or glob, or
            how to search them.
        method: How they reach their levels; one that does not settle.
        training: How to train meanwhile; zero epochs project at once.
        freeze: Gradual freezing after that; None: what is off its level is projected at once.
    """

    bits: int | Mapping[str, int] | SearchBits
    method: Constrained
    training: Training
    freeze: Freeze | None = None


def standard_stages(
    planned: Planned,
    method: Method | Procedure | Solver,
    *,
    prune: Training,
    pretrain: Training | None = None,
    retrain: Training | None = None,
    quantise: Quantise | None = None,
    goal: float | None = None,
    seed: int = 0,
) -> list[Stage]:
    """Pretrain, prune and cut, retrain with the zeros held, quantise.

    Args:
        planned: What may stay.
        method: How the weights get there; a bare solver means :class:`Constrained` with its defaults.
        prune: How to train while pruning.
        pretrain: How to train before, if at all.
        retrain: How to train after the cut, zeros held, if at all; left out if ``goal`` is met.
        quantise: How to quantise the survivors at the end, if at all.
        goal: Each of pruning and retraining stops when the goal's figure is as good as this.
        seed: Of the run.
    """
    if isinstance(method, Solver):
        method = Constrained(solver=method)
    stages = [] if pretrain is None else [Stage(name="pretrain", training=pretrain)]
    one = Stage(
        name="prune", training=prune, aim=planned, cut=True, goal=goal, figure="hard_pruned",
        method=method if isinstance(method, Method) else None,
    )  # fmt: skip
    stages += [one] if isinstance(method, Method) else method.stages(one, seed)
    if retrain is not None:
        stages.append(
            Stage(
                name="retrain", training=retrain, method=KeepZeros(), goal=goal, figure="retrained"
            )
        )
    if quantise is not None:
        stages += _quantising(quantise)
    return stages


def _quantising(how: Quantise) -> list[Stage]:
    towards = Stage(
        name="quantise", training=how.training, method=how.method, aim=OnLevelsOf(how.bits),
        cut=True, figure="quantised",
    )  # fmt: skip
    if how.freeze is None:
        return [towards]
    freeze = Stage(
        name="freeze", training=how.freeze.training, method=how.freeze.method,
        cut=True, figure="quantised",
    )  # fmt: skip
    return [replace(towards, cut=False, figure=None), freeze]


@dataclass(frozen=True, kw_only=True)
class LotteryTicket(Procedure):
    r"""Iterative magnitude pruning with rewinding: train, cut a part, rewind what is left, train again.

    .. math:: d_j = d^{j/n}, \qquad W \leftarrow M_j \odot W_k

    Round j of n cuts what training has left to the density d_j, by magnitude, and the survivors go back to
    the weights W_k that they had after k steps of the first round. So the run trains n + 1 times as many
    epochs as it says; tables print them.

    Args:
        rounds: n, how often a part is cut, >= 1.
        rewind: k, the step of the first round to go back to; 0: its start.
        redraw: The control: before the last training draw new weights instead of rewinding. With the same
            seed the masks are the same.

    Source: Frankle & Carbin 2019, "The Lottery Ticket Hypothesis"; Frankle et al. 2020 for k > 0.

    Example:
        >>> from espalier.runs import Stage
        >>> one = Stage(name="prune", training=Training(epochs=3), aim=Planned(lambda model: model), cut=True)
        >>> [(s.name, s.cut) for s in LotteryTicket(rounds=2).stages(one, seed=0)]
        [('round-1', True), ('round-2', True), ('prune', True)]
    """

    name = "lottery_ticket"
    title = "Lottery ticket"
    sentence = (
        "Train, cut a part by magnitude, rewind what is left to early weights, train again (2019)"
    )

    rounds: Annotated[int, Ge(1)] = 5
    rewind: Annotated[int, Ge(0)] = 0
    redraw: bool = False

    def stages(self, prune: Stage, seed: int) -> list[Stage]:
        """The rounds, and the last training of the ticket that they found."""
        planned = prune.aim
        assert isinstance(planned, Planned)
        prune = replace(prune, title=self.title)
        back = Rewind("round-1", self.rewind)
        found = []
        for j in range(1, self.rounds + 1):
            start: Start = prune.start if j == 1 else back
            aim = Round(planned=planned, number=j, of=self.rounds)
            found.append(
                replace(prune, name=f"round-{j}", aim=aim, start=start, goal=None, figure=None)
            )
        # Every cut is part of a stage's end; what follows it starts from the rewound survivors.
        ticket = Redraw(seed + 1) if self.redraw else back
        return [*found, replace(prune, start=ticket, aim=None, method=KeepZeros())]
