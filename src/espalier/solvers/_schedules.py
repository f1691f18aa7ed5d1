"""How open the budget is at each moment of a run: slack 1 is dense, 0 is the plan's own keep."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le

from espalier._ground.registry import Family


@dataclass(frozen=True)
class Schedule(Family, ABC):
    """A schedule of the slack over the run."""

    @abstractmethod
    def slack(self, progress: float, density: float) -> float:
        """Slack in [0, 1] at ``progress`` ∈ [0, 1] of the run, for a plan of this overall ``density``."""


@dataclass(frozen=True)
class Constant(Schedule):
    """The plan's own budget from the first update on.

    >>> Constant().slack(0.0, 0.1)
    0.0
    """

    name = "constant"
    sentence = "the plan's own budget from the first update on"

    def slack(self, progress: float, density: float) -> float:
        return 0.0


@dataclass(frozen=True)
class Cubic(Schedule):
    r"""Fast while there is much to take, slow near the target: :math:`(1 - t/t_{end})^3`.

    Source: Zhu & Gupta 2017, "To prune, or not to prune", eq. (1).

    >>> Cubic(until=0.5).slack(0.25, 0.1)
    0.125
    """

    name = "cubic"
    sentence = "from dense to the plan's budget, fast at first, by the fraction `until` of the run"

    until: Annotated[float, Gt(0), Le(1)] = 0.35

    def slack(self, progress: float, density: float) -> float:
        return max(0.0, 1.0 - progress / self.until) ** 3


@dataclass(frozen=True)
class Rounds(Schedule):
    """Prune, retrain, prune again: ``rounds`` equal cuts of what remains, the last at ``until``.

    After round j of n the density is :math:`d^{j/n}`. Source: Han et al. 2015.

    >>> Rounds(2, until=1.0).slack(0.5, 0.25)  # density 0.5 on the way from 1 to 0.25
    0.3333333333333333
    """

    name = "rounds"
    sentence = "in equal cuts of what remains, `rounds` of them, the last at `until`"

    rounds: Annotated[int, Ge(1)] = 8
    until: Annotated[float, Gt(0), Le(1)] = 0.8

    def slack(self, progress: float, density: float) -> float:
        done = min(self.rounds, int(progress / self.until * self.rounds + 1e-9))
        if density >= 1.0:
            return 0.0
        return float((density ** (done / self.rounds) - density) / (1.0 - density))
