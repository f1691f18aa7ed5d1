r"""One budget over several tensors: their units compete.

Legend: unit u of tensor t has energy :math:`e_u = \sum_{i \in u} h_i w_i^2` and cost :math:`c_t`;
its price is :math:`e_u / c_t`, the Lagrange multiplier of the limit at which it would go.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor

import torch
from torch import Tensor

from espalier._ground.types import Weights
from espalier.errors import BudgetError, NonFiniteError, RequestError, UnknownNameError, nearest
from espalier.sets._select import affordable, largest
from espalier.sets._set import GroupSet


@dataclass(frozen=True)
class Shared:
    r"""The units of ``set`` in several tensors, at most ``limit`` in total cost.

    .. math:: S = \Bigl\{z : \sum_t c_t\, \max(\#\{u \in t : z_u \ne 0\}, m) \le L\Bigr\}

    The ``minimum`` m units of largest energy stay in every tensor; then units are taken in order of
    price until one does not fit, then, in the same order, every one that still fits. So

    - the total cost is at most ``limit``, and what is left over is less than the cheapest unit not
      taken;
    - with **equal costs** it is the nearest point, exactly (the largest energies of all tensors);
    - otherwise the retained energy falls short of the best possible by less than the energy of one
      unit, the first that did not fit: the continuous relaxation of this knapsack problem retains
      the units taken before it and a fraction of it (Dantzig 1957).

    Ties go to the tensor named first in ``costs``, then to the lower index.

    Args:
        set: What the units are; any set but ``FiltersAndColumns``.
        costs: What a unit of each tensor costs, by parameter name: an integer >= 1, in any currency
            (1: units; weights per unit: weights; MACs per unit: MACs).
        limit: The most all units that stay may cost together, in the same currency.
        minimum: Units that stay in every tensor, a count; a tensor with fewer keeps all it has.

    Raises:
        RequestError: A set without units of one size, or costs or minimum that are no such counts.

    Source: Dantzig 1957, *Discrete-variable extremum problems*; for equal costs global magnitude
    pruning, Han et al. 2015.

    Example:
        >>> from espalier.sets import Unstructured
        >>> a, b = torch.tensor([3.0, 1.0]), torch.tensor([[2.0], [0.5]])
        >>> Shared(Unstructured(), {"a": 1, "b": 1}, limit=3).project({"a": a, "b": b})
        {'a': tensor([3., 1.]), 'b': tensor([[2.], [0.]])}
    """

    set: GroupSet
    costs: Mapping[str, int]
    limit: int
    minimum: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.set, GroupSet):
            raise RequestError(f"{self.set} counts no units of one size; it cannot share a budget")
        if not self.costs:
            raise RequestError("costs name no tensor")
        for name, cost in self.costs.items():
            if not isinstance(cost, int) or cost < 1:
                raise RequestError(f"{name}: a unit costs {cost}; give an integer >= 1")
        if self.minimum < 0:
            raise RequestError(f"minimum={self.minimum}; give a count >= 0")

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors that share the budget."""
        return tuple(self.costs)

    @property
    def implies(self) -> tuple[str, ...]:
        """None: its units take nothing along."""
        return ()

    def support(self, weights: Weights, metrics: Weights | None = None) -> dict[str, Tensor]:
        """Boolean mask for every tensor: where the projection may be nonzero.

        Arguments and errors are those of :meth:`project`.
        """
        self._check_names(weights)
        energies, inside = {}, {}
        for name in self.costs:
            metric = None if metrics is None else metrics.get(name)
            energies[name], inside[name] = self.set.energies(weights[name], metric)
        chosen = self._choose(energies)
        return {
            name: self.set.mask(chosen[name], inside[name], weights[name].shape) for name in weights
        }

    def project(self, weights: Weights, metrics: Weights | None = None) -> dict[str, Tensor]:
        """The point of the set described above: unchanged on the support, zero elsewhere.

        Args:
            weights: A tensor for every name in ``costs``, all on one device. Not modified.
            metrics: The diagonal h >= 0 by name, shape of the weight; absent names are Euclidean.

        Returns:
            New tensors in the order of ``weights``: shape, dtype, device as given, off the graph.

        Raises:
            UnknownNameError: ``weights`` and ``costs`` name different tensors.
            BudgetError: The limit does not pay for the minimum.
            ShapeError, NonFiniteError: As for one tensor.
        """
        masks = self.support(weights, metrics)
        return {name: torch.where(masks[name], w.detach(), 0) for name, w in weights.items()}

    def contains(self, weights: Weights) -> bool:
        """Whether the nonzero units, and the minimum of every tensor, cost at most the limit."""
        self._check_names(weights)
        total = 0
        for name, cost in self.costs.items():
            w = weights[name]
            if not self.set.contains(w, self.set.units(w.shape)):
                return False
            used = int(torch.count_nonzero(self.set.occupied(w)))
            total += cost * max(used, min(self.minimum, self.set.units(w.shape)))
        return total <= self.limit

    def total(self, shapes: Mapping[str, Sequence[int]]) -> int:
        """What all units of tensors of these shapes cost: the largest limit that binds."""
        self._check_names(shapes)
        return sum(cost * self.set.units(shapes[name]) for name, cost in self.costs.items())

    def opened(self, slack: float, shapes: Mapping[str, Sequence[int]]) -> "Shared":
        """The set with its limit moved the fraction ``slack`` of the way to all units.

        Args:
            slack: 0 leaves the limit, 1 opens it to :meth:`total`; rounded down to an integer.
            shapes: The shape of every tensor, by name.

        Example:
            >>> from espalier.sets import Filters
            >>> Shared(Filters(), {"w": 3}, limit=6).opened(0.5, {"w": (10, 4)}).limit
            18
        """
        if not 0 <= slack <= 1:
            raise BudgetError(f"slack={slack} is not a fraction; give 0 <= slack <= 1")
        room = max(0, self.total(shapes) - self.limit)
        limit = self.limit + floor(room * slack)
        return Shared(self.set, self.costs, limit, self.minimum)

    def nonzeros(self, shapes: Mapping[str, Sequence[int]]) -> int:
        """About how many weights may be nonzero: the fraction of the cost that the limit pays for."""
        weights = sum(
            self.set.nonzeros(shapes[name], self.set.units(shapes[name])) for name in self.costs
        )
        return weights * min(self.limit, self.total(shapes)) // max(1, self.total(shapes))

    def implied_masks(
        self, members: Weights, shapes: Mapping[str, Sequence[int]]
    ) -> dict[str, Tensor]:
        """Nothing: its zeros touch no other tensor."""
        return {}

    def _choose(self, energies: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Booleans over the units of every tensor, from Σ hᵢ wᵢ² of each unit."""
        least = {name: min(self.minimum, len(e)) for name, e in energies.items()}
        self._check_limit(least)
        costs = list(self.costs.values())
        equal = len(set(costs)) == 1
        prices = []
        for name, e in energies.items():
            if e.numel() and not bool(torch.isfinite(e.amax())):
                raise NonFiniteError(f"{name}: the energy of a unit overflows float64")
            # What must stay is made dearer than all else, so that one selection serves both.
            price = e if equal else e / self.costs[name]
            prices.append(price.masked_fill(largest(e, least[name]), torch.inf))
        if equal:
            chosen = largest(torch.cat(prices), self.limit // costs[0])
            masks: Sequence[Tensor] = torch.split(chosen, [len(p) for p in prices])
        else:
            masks = _fill(prices, costs, self.limit)
        return dict(zip(energies, masks, strict=True))

    def _check_limit(self, least: Mapping[str, int]) -> None:
        needed = sum(self.costs[name] * count for name, count in least.items())
        if needed > self.limit:
            what = ", ".join(f"{name} ({n} × {self.costs[name]})" for name, n in least.items())
            raise BudgetError(
                f"limit={self.limit} but the {self.set.unit} that must stay cost {needed}: {what}; "
                f"give limit >= {needed} or a smaller minimum"
            )

    def _check_names(self, given: Mapping[str, object]) -> None:
        for name in sorted(given.keys() ^ self.costs.keys()):
            where, known = ("weights", given) if name in self.costs else ("costs", self.costs)
            raise UnknownNameError(f"{name!r} is not in the {where}; {nearest(name, known)}")


def _fill(prices: list[Tensor], costs: list[int], limit: int) -> Sequence[Tensor]:
    """By price until one does not fit; then the same among those that still fit, and so on.

    A round ends at a unit that costs more than is left, which rules out all units of its cost:
    there are at most as many rounds as different costs.
    """
    chosen, left = affordable(prices, costs, limit)
    # Of tensor t at most left // cost more can be taken, so only that many need compete.
    spare = [
        largest(p.masked_fill(m, -torch.inf), min(left // c, len(p) - int(m.sum())))
        for p, m, c in zip(prices, chosen, costs, strict=True)
    ]
    sizes = [len(p) for p in prices]
    chosen_all, index = torch.cat(chosen), torch.cat(spare).nonzero().flatten()
    index = index[torch.cat(prices)[index].argsort(descending=True, stable=True)]
    ends = torch.tensor(sizes, device=index.device).cumsum(0)
    cost = torch.tensor(costs, device=index.device)[torch.searchsorted(ends, index, right=True)]
    while True:
        fits = cost <= left
        index, cost = index[fits], cost[fits]
        if not len(index):
            return torch.split(chosen_all, sizes)
        run = int((cost.cumsum(0) <= left).sum())
        chosen_all[index[:run]] = True
        left -= int(cost[:run].sum())
        index, cost = index[run:], cost[run:]
