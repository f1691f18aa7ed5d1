"""Gates on the units of a plan: one vector of them, spread over the parameters that they multiply."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from espalier._ground.types import Masks
from espalier.errors import RequestError
from espalier.methods._hard_concrete import HardConcrete
from espalier.planning import Plan
from espalier.sets import Alone, Constraint, Coupled, Filters, Product, Shared, Unstructured
from espalier.sets._along import STAYS


@dataclass(frozen=True, kw_only=True)
class Units:
    """All gates in one vector: what each multiplies, and what it takes of which budget."""

    where: Mapping[str, tuple[slice | Tensor, tuple[int, ...]]]
    """By parameter name: its gates, and the shape in which they broadcast against it."""
    sizes: tuple[int, ...]
    """Gates of every budget; they lie one after the other."""
    rates: Tensor
    """Of every gate: the fraction of its budget's whole that its unit is."""
    limits: Tensor
    """Of every budget: the fraction d that may stay."""

    def as_one(self, live: Tensor) -> "Units":
        """The same units in one budget without a limit, each by its part of all ``live`` weights."""
        rates = live / live.sum().clamp(min=1)
        return replace(self, sizes=(len(live),), rates=rates, limits=torch.ones_like(live[:1]))

    def spread(self, z: Tensor) -> dict[str, Tensor]:
        """The gates of every parameter. What stays in any case, index -1, has a gate of 1."""
        z = torch.cat([z, z.new_ones(1)])
        return {name: z[index].reshape(shape) for name, (index, shape) in self.where.items()}

    def counts(self, masks: Masks) -> Tensor:
        """Of every unit: its weights that are True, read off as the derivative of the spread."""
        ones = torch.ones_like(self.rates).requires_grad_()
        with torch.enable_grad():
            total = sum((z * masks[name]).sum() for name, z in self.spread(ones).items())
        assert isinstance(total, Tensor)
        return torch.autograd.grad(total, ones)[0]

    def shares(self, p: Tensor) -> Tensor:
        """Of every budget: the fraction that is expected to stay."""
        return torch.stack([part.sum() for part in torch.split(p * self.rates, list(self.sizes))])

    def prices(self, duals: Tensor) -> Tensor:
        """Of every gate: ∂/∂P of Σ λ_b · share_b."""
        return self.each(duals) * self.rates

    def each(self, of_budgets: Tensor) -> Tensor:
        """Of every gate: what its budget has."""
        return torch.cat([d.expand(n) for d, n in zip(of_budgets, self.sizes, strict=True)])

    def threshold(self, m: Tensor, limits: Tensor) -> Tensor:
        """Of every budget: the smallest δ >= 0 so that the gates with m > δ are at most its limit."""
        found = []
        parts = zip(
            torch.split(m, list(self.sizes)), torch.split(self.rates, list(self.sizes)), strict=True
        )
        for (each, rates), limit in zip(parts, limits, strict=True):
            positive = each > 0  # few, once most are closed: what is sorted at every step
            above, order = each[positive].sort(descending=True)
            taken = rates[positive][order].cumsum(0, dtype=torch.float64)
            beyond = above[taken > limit * (1 + 1e-6)]  # rates are thirds and sevenths
            found.append(beyond[0] if len(beyond) else each.new_zeros(()))
        return torch.stack(found)


def units_of(constraint: Constraint, device: torch.device) -> Units:
    """A gate for every unit of a plan, or of a product of parts.

    Raises:
        RequestError: Another constraint, or a set other than ``Unstructured`` and ``Filters``.
    """
    product = constraint.constraint if isinstance(constraint, Plan) else constraint
    if not isinstance(product, Product):
        raise RequestError(f"gates need a plan without levels; got {type(product).__name__}")
    where: dict[str, tuple[slice | Tensor, tuple[int, ...]]] = {}
    sizes: list[int] = []
    rates: list[Tensor] = []
    limits: list[float] = []
    for part in product.parts:
        first = sum(sizes)
        if isinstance(part, Coupled) and not part.columns:
            for name, along in part.members.items():
                shape = [1] * len(product.shapes[name])
                shape[along.axis] = len(along.units)
                units = torch.tensor(along.units, device=device)
                where[name] = units.where(units == STAYS, units + first), tuple(shape)
            sizes += part.sizes
            rates += [torch.full((n,), 1 / n) for n in part.sizes]
            limits += [keep / n for keep, n in zip(part.keep, part.sizes, strict=True)]
        elif isinstance(part, Alone | Shared) and isinstance(part.set, Unstructured | Filters):
            costs: list[Tensor] = []
            for name in part.names:
                shape = list(product.shapes[name])
                if isinstance(part.set, Filters):
                    shape[1:] = [1] * (len(shape) - 1)
                begin = first + sum(len(each) for each in costs)
                where[name] = slice(begin, begin + prod(shape)), tuple(shape)
                cost = part.costs[name] if isinstance(part, Shared) else 1
                costs.append(torch.full((prod(shape),), float(cost)))
            whole = float(torch.cat(costs).sum(dtype=torch.float64))
            most = part.limit if isinstance(part, Shared) else part.keep
            assert isinstance(most, int)
            sizes.append(sum(len(each) for each in costs))
            rates.append(torch.cat(costs) / whole)
            limits.append(most / whole)
        else:
            raise RequestError(
                f"{part.names[0]}: there are gates for weights and for filters, not for this set; "
                "plan with the set unstructured or filters"
            )
    return Units(
        where=where, sizes=tuple(sizes), rates=torch.cat(rates).to(device),
        limits=torch.tensor(limits, device=device),
    )  # fmt: skip


class Gated(nn.Module):
    """The model with its weights multiplied by gates: sampled once per call in train mode, else eq. 13."""

    def __init__(self, model: nn.Module, units: Units, gate: HardConcrete, start: Tensor) -> None:
        super().__init__()
        self.model, self._units, self._gate = model, units, gate
        self.log_alpha = nn.Parameter(start)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own forward pass, its buffers updated as ever."""
        if self.model.training:
            z = self._gate.sample(self.log_alpha, torch.rand_like(self.log_alpha))
        else:
            z = self._gate.test_time(self.log_alpha)
        return functional_call(self.model, self.gated(z), args, kwargs)

    def gated(self, z: Tensor) -> dict[str, Tensor]:
        """W ⊙ z of every gated parameter, in its own dtype."""
        return {
            name: self.model.get_parameter(name) * each.to(self.model.get_parameter(name).dtype)
            for name, each in self._units.spread(z).items()
        }
