"""A budget whose parts move, while the weights train, to where a unit is dearest."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from espalier._ground.types import Keep
from espalier.budgets._layer import Layer
from espalier.budgets._shared import shared
from espalier.budgets._uniform import uniform
from espalier.errors import BudgetError
from espalier.sets import Priced, Shared
from espalier.sets._priced import By


@dataclass(frozen=True, kw_only=True)
class Shadow:
    """A rule: one budget for all tensors, each with a part of its own that prices move (:class:`Priced`).

    Args:
        rate: Of the moves, > 0.
        by: Whose energies are the prices.
        start: The rule of the first parts.

    Example:
        >>> from espalier.sets import Unstructured
        >>> layers = {n: Layer(shape=(10, 10), set=Unstructured()) for n in ("a", "b")}
        >>> Shadow(rate=0.1)(layers, 0.2).keep
        {'a': 20, 'b': 20}
    """

    rate: float = 0.1
    by: By = "multipliers"
    start: Callable[[Mapping[str, Layer], float], dict[str, Keep]] = uniform

    def __call__(self, layers: Mapping[str, Layer], density: float) -> Priced:
        """The budget at a density; arguments and errors as :func:`espalier.budgets.shared`."""
        return self.over(shared(layers, density), layers, self.start(layers, density))

    def over(self, budget: Shared, layers: Mapping[str, Layer], keep: Mapping[str, Keep]) -> Priced:
        """A shared budget in parts in proportion to keeps.

        Raises:
            BudgetError: A keep that is a pair.
        """
        pairs = [name for name, k in keep.items() if not isinstance(k, int)]
        if pairs:
            raise BudgetError(f"{pairs[0]}: a pair of keeps cannot move; give a set with one count")
        sizes = {name: budget.set.units(layer.shape) for name, layer in layers.items()}
        parts = {name: float(k) for name, k in keep.items() if isinstance(k, int)}
        made = Priced(
            budget.set, budget.costs, budget.limit, budget.minimum, parts, self.rate, self.by
        )
        return made.scaled(parts, sizes)
