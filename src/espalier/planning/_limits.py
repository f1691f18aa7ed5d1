"""What is asked, as costs of coupled widths: multiply-accumulates, bytes, weights."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from torch import nn

from espalier.graph import ChannelGraph
from espalier.measure import LayerCosts, model_bytes
from espalier.planning._cost import Cost, Limit, Odd, Term
from espalier.planning._couple import Coupling
from espalier.planning._request import Request, bytes_limit, macs_limit
from espalier.planning._select import Selection
from espalier.sets import Alone, FiltersAndColumns

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Costing:
    """A model whose widths are to be chosen: what its costs are made of.

    Attributes:
        model: The dense one.
        graph: Of it.
        coupling: The units that may go.
        dense: What its weights cost.
        chosen: The sets asked for.
        alone: Tensors that are pruned by themselves besides.
    """

    model: nn.Module
    graph: ChannelGraph
    coupling: Coupling
    dense: LayerCosts
    chosen: Selection
    alone: Mapping[str, Alone]

    @property
    def shapes(self) -> Shapes:
        """Of every parameter."""
        return {name: tuple(p.shape) for name, p in self.model.named_parameters()}

    @property
    def columns(self) -> list[str]:
        """The tensors that lose columns besides."""
        return [
            name
            for name, along in self.coupling.units.members.items()
            if along.axis == 0 and isinstance(self.chosen.sets.get(name), FiltersAndColumns)
        ]

    def by_weight(self, each: Mapping[str, float]) -> Cost:
        """The cost when every weight of a tensor costs the same, and nothing else costs anything."""
        return self._cost(each, ())

    def macs(self) -> Cost:
        """Multiply-accumulates for one sample, products of two activations among them."""
        each = {name: float(cost.macs) for name, cost in self.dense.items()}
        products = self.graph.products
        seen, between = sum(one.macs for one in products), self.dense.between_activations
        if not seen:
            return self._cost(each, (), fixed=between)
        # The graph counts them for the whole batch, the measurement for one sample.
        scale = between / seen
        terms = [
            Term(cost=one.macs * scale, axes=tuple(map(self.coupling.axis, one.axes)))
            for one in products
        ]
        return self._cost(each, terms)

    def bytes(self) -> Cost:
        """Bytes of all parameters and buffers."""
        each = {n: float(p.numel() * p.element_size()) for n, p in self.model.named_parameters()}
        return self._cost(each, list(self._buffers()))

    def limits(self, request: Request) -> list[Limit]:
        """What a request asks of the widths."""
        found = []
        if request.density is not None:
            own = self.chosen.sets.keys() - self.alone.keys()
            numel = {name: c.numel for name, c in self.dense.items() if name in own}
            most = round(request.density * sum(numel.values()))
            found.append(Limit(what="weights", cost=self.by_weight(numel), most=most))
        if request.macs is not None:
            most = macs_limit(request.macs, self.dense)
            found.append(Limit(what="macs", cost=self.macs(), most=most))
        if request.bytes is not None:
            most = bytes_limit(request.bytes, model_bytes(self.model).dense)
            found.append(Limit(what="bytes", cost=self.bytes(), most=most))
        return found

    def _buffers(self) -> Iterator[Term]:
        for name, buffer in self.model.named_buffers():
            axes = (self.graph.classes.get((name, axis)) for axis in range(buffer.dim()))
            terms = tuple(self.coupling.axis(ids) for ids in axes if ids is not None)
            yield Term(cost=buffer.numel() * buffer.element_size(), axes=terms)

    def _cost(self, each: Mapping[str, float], more: Sequence[Term], fixed: float = 0) -> Cost:
        units, shapes, columns = self.coupling.units, self.shapes, self.columns
        terms, odd = list(more), []
        for name, cost in each.items():
            if name in self.alone or name in columns:
                odd.append(self._odd(name, cost))
                continue
            taken = (units.taken(along) for along in units.alongs(name))
            axes = tuple((shapes[name][axis], inside) for axis, inside in taken)
            terms.append(Term(cost=cost, axes=axes))
        return Cost(terms, units.sizes, fixed, odd)

    def _odd(self, name: str, cost: float) -> Odd:
        """What is left of a tensor that is pruned in another way besides."""
        units, shape, one = self.coupling.units, self.shapes[name], self.alone.get(name)

        def left(keep: Sequence[int], columns: float) -> float:
            here = units.with_keep(keep)
            sides = list(shape)
            for along in here.alongs(name):
                sides[along.axis] = here.kept(along)
            count = sides[0] * share(columns, prod(sides[1:]))
            if one is not None:
                count = one.left_of(prod(sides), one.whole(units.alongs(name)))
            return cost * count // max(1, prod(shape))

        return left

    def columns_left(self, keep: Sequence[int], fraction: float) -> dict[str, int]:
        """How many columns stay in the tensors that lose them."""
        here, shapes, found = self.coupling.units.with_keep(keep), self.shapes, {}
        for name in self.columns:
            sides = list(shapes[name])
            for along in here.alongs(name):
                sides[along.axis] = here.kept(along)
            found[name] = share(fraction, prod(sides[1:]))
        return found


def share(fraction: float, columns: int) -> int:
    """So many of the columns, one at least."""
    return min(columns, max(1, round(fraction * columns)))
