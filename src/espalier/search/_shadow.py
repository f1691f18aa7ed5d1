"""Shadow prices: parts of a budget that move, while the weights train, to where a unit is dearest."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Gt

from espalier import budgets
from espalier.search._allocating import Allocating, Trying
from espalier.sets._priced import By


@dataclass(frozen=True, kw_only=True)
class ShadowPrices(Allocating):
    """A budget in parts, one a layer, that the solver's prices move between two updates.

    Args:
        rate: Of the moves, > 0: the dearest layer's part grows by about this fraction, before the others give it.
        by: The price: ``multipliers``, the energy of Λ at the units that would come next (for solvers that
            have it), or ``energies``, that of the point that is projected.
        start: How the parts begin.
    """

    name = "shadow_prices"
    sentence = "Layers trade parts of the budget while they train, at the prices of the multipliers"

    rate: Annotated[float, Gt(0)] = 0.1
    by: By = "multipliers"
    start: Literal["uniform", "erk", "global"] = "uniform"

    _STARTS: ClassVar[Mapping[str, Any]] = {
        "uniform": budgets.uniform, "erk": budgets.erk, "global": budgets.global_magnitude,
    }  # fmt: skip

    def rule(self, trying: Trying) -> budgets.Shadow:
        """The rule; it looks at the weights of the moment only where it starts from ``global``."""
        return budgets.Shadow(rate=self.rate, by=self.by, start=self._STARTS[self.start])
