r"""One budget over several tensors, shared out in parts that move to where a unit is dearest.

Legend: tensor t has :math:`n_t` units of cost :math:`c_t` and the part :math:`b_t` of the budget L, a real number
of units; :math:`S_t` are the units that stay in it, :math:`e_u` the energies by which units are priced.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor

from espalier._ground.types import Weights
from espalier.errors import BudgetError, RequestError
from espalier.sets._constraint import Constraint
from espalier.sets._on_levels import OnLevels
from espalier.sets._product import Product
from espalier.sets._select import largest
from espalier.sets._shared import Shared

By = Literal["multipliers", "energies"]


@dataclass(frozen=True)
class Priced(Shared):
    r"""A :class:`Shared` budget that every tensor has a part of, between two moves its own alone.

    .. math:: \sum_t c_t b_t = L, \qquad k_t \in \{\lfloor b_t \rfloor, \lceil b_t \rceil\}, \qquad
              \sum_t c_t k_t \le L

    The projection keeps the :math:`k_t` units of largest energy of each tensor. :meth:`moved` moves the parts by
    one step of exponentiated gradient on the prices :math:`p_t`, the mean energy of the units that tensor t would
    take in were it to grow by ``rate``, for their cost:

    .. math:: p_t = \frac{1}{m_t c_t} \sum_{u \in \text{top-}m_t(t \setminus S_t)} e_u, \quad
              m_t = \lceil \text{rate} \cdot k_t \rceil, \qquad
              b_t \propto b_t \exp\Bigl(\text{rate} \cdot \frac{p_t}{\max_s p_s}\Bigr)

    held within ``minimum`` and all units. Whether weights are inside is the shared budget's question: the parts say
    only how a solver gets there.

    Args:
        parts: :math:`b_t` by parameter name.
        rate: Of the moves, > 0.
        by: Whose energies the prices are: those of the solver's multipliers Λ, or of the point that it projects,
            W + Λ/ρ (W, for a solver without multipliers).

    Raises:
        RequestError: As for :class:`Shared`; parts of other tensors, or a rate that is not positive.

    Source: for the step Kivinen & Warmuth 1997, *Exponentiated gradient versus gradient descent*; for the price,
    the envelope theorem: ``docs/method/shadow-prices.md``.

    Example:
        >>> import torch
        >>> from espalier.sets import Unstructured
        >>> a, b = torch.tensor([5.0, 4.0]), torch.tensor([3.0, 1.0])
        >>> two = Priced(
        ...     Unstructured(), {"a": 1, "b": 1}, limit=2, minimum=0, parts={"a": 1.0, "b": 1.0}, rate=1.0
        ... )
        >>> two.project({"a": a, "b": b})
        {'a': tensor([5., 0.]), 'b': tensor([3., 0.])}
        >>> {name: round(part, 2) for name, part in two.moved({"a": a, "b": b}).parts.items()}
        {'a': 1.44, 'b': 0.56}
    """

    parts: Mapping[str, float] = field(default_factory=dict)
    rate: float = 0.1
    by: By = "multipliers"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.parts.keys() != self.costs.keys():
            raise RequestError("parts and costs name different tensors; give a part of each")
        if not 0 < self.rate < math.inf:
            raise RequestError(f"rate={self.rate}; give a number > 0")

    @property
    def keep(self) -> dict[str, int]:
        """k: the parts rounded down, and then up by the largest fractions as long as the limit pays for it."""
        keep = {name: math.floor(part) for name, part in self.parts.items()}
        left = self.limit - sum(self.costs[name] * k for name, k in keep.items())
        for name in sorted(keep, key=lambda name: keep[name] - self.parts[name]):
            if keep[name] < self.parts[name] and self.costs[name] <= left:
                keep[name] += 1
                left -= self.costs[name]
        return {name: max(k, self.minimum) for name, k in keep.items()}

    def opened(self, slack: float, shapes: Mapping[str, Sequence[int]]) -> "Priced":
        """With its limit, and every part, moved the fraction ``slack`` of the way to all units."""
        wide = super().opened(slack, shapes)
        parts = {n: b + (self.set.units(shapes[n]) - b) * slack for n, b in self.parts.items()}
        return replace(self, limit=wide.limit, parts=parts)

    def moved(
        self, point: Weights, metrics: Weights | None = None, z: Weights | None = None
    ) -> "Priced":
        """With its parts moved by the prices of the moment.

        Args:
            point: Whose energies are the prices, by name.
            metrics: The diagonal h >= 0 by name; absent names are Euclidean.
            z: The point of the set whose units stay; by default the projection of ``point``.
        """
        prices, sizes = {}, {}
        for name, k in self.keep.items():
            e, _ = self.set.energies(point[name], (metrics or {}).get(name))
            inside = largest(e, min(k, len(e))) if z is None else self.set.occupied(z[name])
            outside = e.masked_fill(inside, 0)
            m = min(len(e), math.ceil(self.rate * max(1, k)))
            prices[name] = float(outside.topk(m).values.mean()) / self.costs[name]
            sizes[name] = len(e)
        highest = max(prices.values())
        if not 0 < highest < math.inf:
            return self
        wanted = {n: b * math.exp(self.rate * prices[n] / highest) for n, b in self.parts.items()}
        return self.scaled(wanted, sizes)

    def scaled(self, wanted: Mapping[str, float], sizes: Mapping[str, int]) -> "Priced":
        """With parts in proportion to what is wanted, the whole budget together, each within its bounds.

        Args:
            wanted: By name, > 0.
            sizes: How many units each tensor has.
        """
        low = {n: float(min(self.minimum, size)) for n, size in sizes.items()}
        held: dict[str, float] = {}
        while True:
            free = {n: b for n, b in wanted.items() if n not in held}
            left = self.limit - sum(self.costs[n] * b for n, b in held.items())
            total = sum(self.costs[n] * b for n, b in free.items())
            if not free or total <= 0:
                break
            scaled = {n: b * left / total for n, b in free.items()}
            # First those that are too many, whose surplus the others then share; then those too few.
            out = {n: float(sizes[n]) for n, b in scaled.items() if b > sizes[n]}
            out = out or {n: low[n] for n, b in scaled.items() if b < low[n]}
            if not out:
                held |= scaled
                break
            held |= out
        return replace(self, parts={name: held.get(name, low[name]) for name in wanted})

    def _choose(self, energies: Mapping[str, Tensor]) -> dict[str, Tensor]:
        keep = self.keep
        self._check_limit({name: min(self.minimum, len(e)) for name, e in energies.items()})
        return {name: largest(e, min(keep[name], len(e))) for name, e in energies.items()}


def priced(constraint: Constraint) -> Priced | None:
    """The part of a constraint whose budget moves, if it has one."""
    inner = getattr(constraint, "constraint", constraint)
    if isinstance(inner, OnLevels):
        return priced(inner.inner)
    parts = inner.parts if isinstance(inner, Product) else ()
    return next((part for part in parts if isinstance(part, Priced)), None)


def with_priced(constraint: Constraint, part: Priced) -> Constraint:
    """The constraint with its moving part in another place."""
    inner = getattr(constraint, "constraint", constraint)
    if isinstance(inner, OnLevels):
        return replace(inner, inner=with_priced(inner.inner, part))
    if not isinstance(inner, Product):
        raise BudgetError(f"{type(inner).__name__} has no budget that moves")
    parts = tuple(part if isinstance(one, Priced) else one for one in inner.parts)
    return replace(inner, parts=parts)
