"""How a budget is shared out when a function of the weights' sizes is not to decide: by trying, or by prices."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from espalier import budgets
from espalier._ground.registry import Family
from espalier._ground.searching import Stepwise, Trial, searched
from espalier._ground.types import Keep, Masks
from espalier.errors import BudgetError
from espalier.planning import Allotment
from espalier.sets import Shared

Keeps = dict[str, int]
"""A candidate: by the weight that stands for each group, how many of its units stay; what is left out is dense."""

Steps = Generator[Keeps, float, list[int]]
"""A search over budgets: it yields candidates, is sent −error of each, and returns the keep of every group."""


@dataclass(frozen=True, kw_only=True)
class Trying:
    """What a search over budgets may know of its run.

    Attributes:
        worth: Of the model cut to masks, −error on data kept apart from the test set; higher is better.
        seed: Of the run.
        known: Trials from before an interruption.
        note: Called with all trials after each.
    """

    worth: Callable[[Masks], float]
    seed: int = 0
    known: Sequence[Trial[Keeps]] = ()
    note: Callable[[list[Trial[Keeps]]], object] | None = None


@dataclass(frozen=True, kw_only=True)
class Allocating(Family, ABC):
    """How a budget is shared among groups of units: what a recipe's ``allocation`` names."""

    @abstractmethod
    def rule(self, trying: Trying) -> Any:
        """The ``allocation=`` of :func:`espalier.plan`."""


@dataclass(frozen=True, kw_only=True)
class Searching(Allocating, ABC):
    """One that looks for the keeps by trying them, on trained weights."""

    @abstractmethod
    def steps(self, of: Allotment, seed: int) -> Steps:
        """The search, as a generator."""

    def rule(self, trying: Trying) -> "Sought":
        """The search, as an allocation."""
        return Sought(self.steps, trying)


class Sought:
    """An ``allocation=`` for :func:`espalier.plan` that is looked for by trying.

    A search runs once: where the plan is made anew, because compaction kept something back or cost other
    than estimated, what was found is fitted into the budget of then.

    Args:
        steps: From an allotment and a seed to the search.
        trying: What it may know.

    Attributes:
        trials: Those of the search, once it has run.
    """

    def __init__(self, steps: Callable[[Allotment, int], Steps], trying: Trying) -> None:
        self._steps, self._trying = steps, trying
        self._found: dict[str, float] = {}
        self.trials: list[Trial[Keeps]] = []

    def allot(self, of: Allotment) -> Sequence[int]:
        """The keep of every group."""
        if not self._found:
            keep = self._search(of)
            sizes = (one.size for one in of.allowed)
            self._found = {n: k / size for n, k, size in zip(of.names, keep, sizes, strict=True)}
            return keep
        return of.filled(of.nearest([self._found.get(name, 1.0) for name in of.names]))

    def __call__(
        self, layers: Mapping[str, budgets.Layer], density: float
    ) -> dict[str, Keep] | Shared:
        """Of tensors that are pruned by themselves beside coupled channels: the same density in each."""
        return budgets.uniform(layers, density)

    def _search(self, of: Allotment) -> list[int]:
        search = Stepwise(self._steps(of, self._trying.seed))

        def worth(candidate: Keeps) -> float:
            keep = [candidate.get(n, one.size) for n, one in zip(of.names, of.allowed, strict=True)]
            return self._trying.worth(of.masks(keep))

        self.trials = searched(search, worth, self._trying.known, self._trying.note)
        assert search.answer is not None
        return search.answer


def clamped(
    of: Allotment, floor: float, log: bool, action: Callable[[list[int]], float]
) -> list[int]:
    r"""A keep for every group in turn, each as the action says and no more than leaves the rest its least.

    .. math:: k_t = \min\Bigl(\text{nearest}(a_t n_t),\;
              \max\{k : c(k_1, \dots, k_{t-1}, k, k^{\min}_{t+1}, \dots, k^{\min}_T) \le C\}\Bigr)

    Args:
        of: The groups, and what they may cost.
        floor: The smallest fraction :math:`k^{\min}/n` of a group.
        log: Whether an action u in [0, 1] stands for the fraction floor^(1 − u), not for floor + u (1 − floor).
        action: From the keeps so far to u of the next group.

    Raises:
        BudgetError: The floor of all groups together costs too much.

    Source: He et al. 2018, *AMC*, Algorithm 1.
    """
    least = [max(one.least, one.nearest(floor)) for one in of.allowed]
    if not of.fits(least):
        raise BudgetError(
            f"floor={floor}: the smallest keeps that are tried cost {of.cost(least):,.0f} and "
            f"{of.limits[0].most:,} {of.limits[0].what} may stay; give a lower floor"
        )
    keep: list[int] = []
    for t, one in enumerate(of.allowed):
        u = action(keep)
        ratio = floor ** (1.0 - u) if log else floor + u * (1.0 - floor)
        most = of.most(keep, least[t + 1 :])
        keep.append(min(max(one.nearest(ratio), least[t]), most))
    return keep
