r"""A budget that is to be shared out by trying: what may be kept of what, what that costs, and what it leaves.

Legend: group g has :math:`n_g` units and keeps :math:`k_g` of them; :math:`c(k)` is what all together cost.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from espalier import budgets
from espalier._ground.searching import Stepwise, bisection, searched
from espalier._ground.types import Masks
from espalier.budgets._ranking import Ladder
from espalier.errors import BudgetError
from espalier.measure import LayerCosts
from espalier.planning._cost import Cost, Limit, Term
from espalier.planning._limits import Costing
from espalier.planning._request import macs_limit
from espalier.planning._widths import check_floor
from espalier.sets import Alone

_RESOLUTION = 0.5**40


@dataclass(frozen=True, kw_only=True, eq=False)
class Allotment:
    """Groups of units in the model's order, each a tensor pruned alone or channels tied together.

    Attributes:
        names: The weight that stands for each group.
        allowed: The keeps that each may have.
        limits: What all together may cost, at least one limit.
        masks: From keeps to what they leave of the model's parameters as they are now.
        model: The model.
        macs: Dense multiply-accumulates by weight, as far as they are known.
    """

    names: tuple[str, ...]
    allowed: tuple[Ladder, ...]
    limits: tuple[Limit, ...]
    masks: Callable[[Sequence[int]], Masks]
    model: nn.Module
    macs: Mapping[str, int]

    @property
    def dense(self) -> list[int]:
        """Everything kept."""
        return [one.size for one in self.allowed]

    @property
    def least(self) -> list[int]:
        """As little as may be."""
        return [one.least for one in self.allowed]

    def cost(self, keep: Sequence[int]) -> float:
        """What keeps cost, in the currency of the first limit."""
        return float(self.limits[0].cost(keep))

    @cached_property
    def own(self) -> tuple[float, ...]:
        """Of each group: what would be saved were it gone and all else there."""
        dense = self.dense
        gone = ([0 if i == g else n for i, n in enumerate(dense)] for g in range(len(dense)))
        return tuple(self.cost(dense) - self.cost(keep) for keep in gone)

    def fits(self, keep: Sequence[int]) -> bool:
        """Whether keeps are within all limits."""
        return all(bool(limit.fits(keep)) for limit in self.limits)

    def most(self, before: Sequence[int], after: Sequence[int]) -> int:
        """The largest keep of the group after ``before`` with which the limits can still be met.

        Args:
            before: Keeps of the groups before it.
            after: The smallest that those after it may have.
        """
        one = self.allowed[len(before)]
        search = Stepwise(bisection(one.least, one.size + 1, until=1))
        searched(search, lambda k: 0.0 if self.fits([*before, k, *after]) else -1.0)
        most: int = search.answer or one.least
        return most if most == one.size else max(one.least, most // one.step * one.step)

    def nearest(self, ratios: Sequence[float]) -> list[int]:
        """The keeps nearest to fractions of the groups."""
        return [one.nearest(min(1.0, r)) for one, r in zip(self.allowed, ratios, strict=True)]

    def filled(self, keep: Sequence[int]) -> list[int]:
        """The keeps times one factor, the largest that fits; then unit by unit what its rounding leaves."""
        ratios = [k / one.size for k, one in zip(keep, self.allowed, strict=True)]
        high = 1.0 / min(r for r in ratios)
        search = Stepwise(bisection(0.0, high, until=high * _RESOLUTION))
        whole = self.nearest([r * high for r in ratios])
        if self.fits(whole):
            return whole
        searched(search, lambda c: 0.0 if self._scaled_fits(ratios, c) else -1.0)
        keep = self.nearest([r * (search.answer or 0.0) for r in ratios])
        return self._spent(keep)

    def _scaled_fits(self, ratios: Sequence[float], factor: float) -> bool:
        return self.fits(self.nearest([r * factor for r in ratios]))

    def _spent(self, keep: Sequence[int]) -> list[int]:
        """What is left over goes to single steps, each to the group that then has the smallest surplus."""
        keep = list(keep)
        for g in sorted(range(len(keep)), key=lambda g: -self.own[g] / self.allowed[g].size):
            while (up := self.allowed[g].up(keep[g])) is not None and self.fits(
                [*keep[:g], up, *keep[g + 1 :]]
            ):
                keep[g] = up
        return keep

    def check(self) -> None:
        """Raise ``BudgetError`` where even the least keeps cost too much."""
        check_floor(self.limits, self.allowed, "")


@runtime_checkable
class Allotter(Protocol):
    """An ``allocation=`` that looks for the keeps of a budget itself."""

    def allot(self, of: Allotment) -> Sequence[int]:
        """The keep of every group, within the limits."""
        ...


def allot_layers(
    layers: Mapping[str, budgets.Layer],
    figure: float | None,
    macs: float | int | None,
    costs: LayerCosts | None,
    model: nn.Module,
) -> Allotment:
    """The allotment of tensors that are pruned by themselves.

    Args:
        layers: The tensors.
        figure: The fraction of their weights that may stay; or
        macs: what may stay of the model's multiply-accumulates.
        costs: Of the dense model; for ``macs``.
        model: The model.

    Raises:
        BudgetError: A set whose keep is a pair, MACs that are not known, no values, or a limit that
            cannot be met.
    """
    allowed, weigh = [], {}
    for name, layer in layers.items():
        least, most = layer.least, layer.most
        if not isinstance(least, int) or not isinstance(most, int):
            raise BudgetError(
                f"{name}: {layer.set} has a pair of keeps, which no search shares out"
            )
        if layer.weight is None:
            raise BudgetError(f"{name}: no values to cut (meta device?); give a model with weights")
        allowed.append(Ladder(size=most, least=least))
        weigh[name] = layer.nonzeros(most) / layer.numel
    sizes = [one.size for one in allowed]
    if figure is not None:
        total = sum(layer.numel for layer in layers.values())
        each = {name: layer.numel * weigh[name] for name, layer in layers.items()}
        what, most_of, fixed = "weights", round(figure * total), 0.0
    else:
        if costs is None or macs is None:
            raise BudgetError("macs= needs example_input=, one batch as the model takes it")
        each = {name: (layer.macs or 0) * weigh[name] for name, layer in layers.items()}
        what, most_of = "macs", macs_limit(macs, costs)
        fixed = costs.total - sum(layer.macs or 0 for layer in layers.values())
    terms = [
        Term(cost=cost, axes=((size, {g: 1}),))
        for g, (cost, size) in enumerate(zip(each.values(), sizes, strict=True))
    ]
    limit = Limit(what=what, cost=Cost(terms, sizes, fixed), most=most_of)

    def masks(keep: Sequence[int]) -> Masks:
        found: dict[str, Tensor] = {}
        for (name, layer), k in zip(layers.items(), keep, strict=True):
            assert layer.weight is not None
            found |= Alone(name, layer.shape, layer.set, k).support({name: layer.weight})
        return found

    made = Allotment(
        names=tuple(layers), allowed=tuple(allowed), limits=(limit,), masks=masks, model=model,
        macs={name: layer.macs for name, layer in layers.items() if layer.macs is not None},
    )  # fmt: skip
    made.check()
    return made


def allot_coupled(of: Costing, limits: Sequence[Limit], allowed: Sequence[Ladder]) -> Allotment:
    """The allotment of channels that are tied together.

    Args:
        of: The model, its units and what they cost.
        limits: What they may.
        allowed: The widths of every group.

    Raises:
        BudgetError: No values, columns that are chosen besides, or a limit that cannot be met.
    """
    units, weights = of.coupling.units, {n: p.detach() for n, p in of.model.named_parameters()}
    if of.columns:
        raise BudgetError(
            f"{of.columns[0]}: filters are shared out without columns; give Filters() or Channels()"
        )
    if any(weights[name].is_meta for name in units.names):
        raise BudgetError("no values to cut (meta device?); give a model with weights")
    # A weight may have the channels of several groups, and every group is of some weight.
    stands = {g: n for n, groups in reversed([*of.coupling.widths.items()]) for g in groups}

    def masks(keep: Sequence[int]) -> Masks:
        here = units.with_keep(keep)
        own = here.support(weights)
        gone = here.implied_masks(own, of.shapes)
        return {**gone, **{n: mask & gone[n] if n in gone else mask for n, mask in own.items()}}

    made = Allotment(
        names=tuple(stands[g] for g in range(len(units.sizes))),
        allowed=tuple(allowed), limits=tuple(limits), masks=masks, model=of.model,
        macs={name: cost.macs for name, cost in of.dense.items()},
    )  # fmt: skip
    made.check()
    return made
