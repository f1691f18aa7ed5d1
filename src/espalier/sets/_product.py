r"""Constraints on disjoint groups of tensors, held together.

Legend: part p constrains the tensors :math:`T_p`; :math:`A_t` are the weights of tensor t that no unit of
a coupled part that has gone makes irrelevant (all of them, for most tensors).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Protocol

import torch
from torch import Tensor, nn

from espalier._ground.types import Masks, Weights
from espalier.errors import BudgetError, RequestError, ShapeError, UnknownNameError, nearest
from espalier.sets._alone import Alone
from espalier.sets._coupled import Coupled
from espalier.sets._shared import Shared


class Part(Protocol):
    """What a :class:`Product` asks of its parts: ``Alone``, ``Shared``, ``Coupled``."""

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors it constrains."""
        ...

    @property
    def implies(self) -> tuple[str, ...]:
        """The tensors of which its zeros may make slices irrelevant."""
        ...

    def opened(self, slack: float, shapes: Mapping[str, Sequence[int]]) -> "Part":
        """It, opened the fraction ``slack`` of the way to dense."""
        ...

    def support(self, weights: Weights, metrics: Weights | None = None) -> dict[str, Tensor]:
        """Boolean masks of its nearest point."""
        ...

    def contains(self, weights: Weights) -> bool:
        """Whether its tensors are inside."""
        ...

    def implied_masks(
        self, members: Weights, shapes: Mapping[str, Sequence[int]]
    ) -> dict[str, Tensor]:
        """Of the tensors in ``shapes``: what zeros among its own make irrelevant, False there."""
        ...


@dataclass(frozen=True, kw_only=True)
class Product:
    r"""Parts over disjoint tensors; each tensor is in one.

    .. math:: S = \{W : W_{T_p} \in S_p \;\forall p, \quad w_i = 0 \;\forall i \notin A_t\}

    Where no tensor of one part loses slices through another, A_t is everything and the projection is the
    parts' own: the nearest point wherever theirs is. Otherwise (a tensor pruned by itself reads channels
    that go) the part whose units go is projected first, and the others choose among what stays alive:
    exact counts, each step nearest given the one before, not jointly.

    Args:
        parts: ``Alone``, ``Shared`` and ``Coupled``.
        shapes: Of every tensor, by name, in the model's order.

    Raises:
        RequestError: A tensor in two parts, or in none.

    Example:
        >>> from espalier.sets import Unstructured
        >>> two = Product(parts=(Alone("a", (2,), Unstructured(), 1), Shared(Unstructured(), {"b": 1}, 1)),
        ...               shapes={"a": (2,), "b": (3,)})
        >>> two.project({"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0, 2.0, 1.0])})
        {'a': tensor([0., 2.]), 'b': tensor([3., 0., 0.])}
    """

    parts: tuple[Part, ...]
    shapes: Mapping[str, tuple[int, ...]]

    def __post_init__(self) -> None:
        times = Counter(name for part in self.parts for name in part.names)
        odd = [n for n, count in times.items() if count > 1 or n not in self.shapes]
        odd += [n for n in self.shapes if n not in times]
        if odd:
            raise RequestError(f"{odd[0]}: a product needs its shape and exactly one part for it")

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors, in the order of ``shapes``."""
        return tuple(self.shapes)

    @property
    def held(self) -> Masks:
        """No zero is held before the first update: any weight may still be among those that stay."""
        return {}

    @cached_property
    def density(self) -> float:
        """Fraction of the weights that may stay."""
        total = sum(prod(shape) for shape in self.shapes.values())
        return sum(self._left(part) for part in self.parts) / max(1, total)

    def check(self, model: nn.Module) -> None:
        """Raise unless the model has every parameter in its shape: UnknownNameError, ShapeError."""
        self._given(dict(model.named_parameters(remove_duplicate=False)))

    def opened(self, slack: float) -> "Product":
        """Every part opened the fraction ``slack`` of the way to dense; itself at 0.

        Raises:
            BudgetError: No fraction.
        """
        if not 0.0 <= slack <= 1.0:
            raise BudgetError(f"slack={slack}; give 0 (the budget itself) to 1 (dense)")
        if slack == 0:
            return self
        parts = tuple(part.opened(slack, self._shapes_of(part)) for part in self.parts)
        return Product(parts=parts, shapes=self.shapes)

    def support(self, w: Weights, h: Weights | None = None) -> dict[str, Tensor]:
        """Boolean masks by name: where the projection may be nonzero.

        Args:
            w: Every tensor in :attr:`names`; others are ignored.
            h: Diagonal of H by name, shape of the weight; a name that is missing has H = I.

        Raises:
            UnknownNameError: A parameter without weights.
            ShapeError: Weights, or a metric, of another shape.
            NonFiniteError: NaN or infinity, with the parameter's name.
        """
        given, metrics = self._given(w), h or {}
        masks: dict[str, Tensor] = {}
        alive: dict[str, Tensor] = {}
        for part in self._in_turn:
            mine = {name: given[name] for name in part.names}
            for name in mine.keys() & alive.keys():
                # What nothing reads has no energy, so that every count is spent on what is alive.
                mine[name] = torch.where(alive[name], mine[name].detach(), 0)
            found = part.support(mine, {n: metrics[n] for n in mine if n in metrics})
            masks |= {n: m & alive[n] if n in alive else m for n, m in found.items()}
            self._narrow(alive, part, found)
        return {name: masks[name] for name in self.shapes}

    def project(self, w: Weights, h: Weights | None = None) -> dict[str, Tensor]:
        """Each tensor unchanged on its support, zero elsewhere; new tensors, off the graph.

        Arguments and errors are those of :meth:`support`.
        """
        masks = self.support(w, h)
        return {name: torch.where(mask, w[name].detach(), 0) for name, mask in masks.items()}

    def contains(self, w: Weights) -> bool:
        """Whether the tensors are in their parts, and zero where units that go take them along."""
        given = self._given(w)
        alive: dict[str, Tensor] = {}
        for part in self._in_turn:
            mine = {name: given[name] for name in part.names}
            if not part.contains(mine):
                return False
            if any(bool(mine[n].detach()[~alive[n]].any()) for n in mine.keys() & alive.keys()):
                return False
            if self._beyond(part):
                self._narrow(alive, part, part.support(mine))
        return True

    def implied(self, masks: Masks, parameters: Weights) -> dict[str, Tensor]:
        """Masks of further parameters: what multiplies the zeros of channels that go.

        Args:
            masks: Of the constrained tensors, from :meth:`support`.
            parameters: All of the model's, by name; only their shapes matter.
        """
        found: dict[str, Tensor] = {}
        shapes = {name: p.shape for name, p in parameters.items()}
        for part in self.parts:
            own = {name: masks[name] for name in part.names}
            for name, mask in part.implied_masks(own, shapes).items():
                found[name] = mask & found[name] if name in found else mask
        return {name: mask & masks[name] if name in masks else mask for name, mask in found.items()}

    @cached_property
    def _in_turn(self) -> tuple[Part, ...]:
        """Those whose units take slices of other tensors along first."""
        return tuple(sorted(self.parts, key=lambda part: not part.implies))

    def _beyond(self, part: Part) -> dict[str, tuple[int, ...]]:
        """The shapes of the tensors of other parts, where this one may take slices of them along."""
        names = set(part.implies) - set(part.names)
        return {name: shape for name, shape in self.shapes.items() if name in names}

    def _narrow(self, alive: dict[str, Tensor], part: Part, found: Masks) -> None:
        others = self._beyond(part)
        for name, mask in part.implied_masks(found, others).items() if others else ():
            alive[name] = mask & alive[name] if name in alive else mask

    def _shapes_of(self, part: Part) -> dict[str, tuple[int, ...]]:
        return {name: self.shapes[name] for name in part.names}

    def _left(self, part: Part) -> int:
        if isinstance(part, Alone):
            return part.left(*(one for one in self.parts if isinstance(one, Coupled)))
        assert isinstance(part, Shared | Coupled)
        return part.nonzeros(self._shapes_of(part))

    def _given(self, weights: Weights) -> dict[str, Tensor]:
        found = {}
        for name, shape in self.shapes.items():
            if name not in weights:
                raise UnknownNameError(f"no weights given for {name!r}; {nearest(name, weights)}")
            if tuple(weights[name].shape) != tuple(shape):
                raise ShapeError(
                    f"{name}: shape {tuple(weights[name].shape)} but the constraint is for {shape}"
                )
            found[name] = weights[name]
        return found
