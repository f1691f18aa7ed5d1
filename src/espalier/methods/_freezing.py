r"""Quantise a part, freeze it, retrain the rest, repeat (ADMM-NN's quantised retraining).

Of the weights that stand nearest to a level and are still free, the closest 30 % are put on it and frozen,
level by level; the free ones are trained on and make up for the error; at the end the rest is projected. The
distance q of a tensor's levels is fixed at the start: what is frozen lies on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
from torch.optim import Optimizer

from espalier._ground.types import Masks
from espalier.errors import RequestError
from espalier.methods._handle import Handle
from espalier.methods._method import Cut, Method, Setting
from espalier.sets import Constraint, OnLevels, Within
from espalier.solvers import Approach


def nearest_of_each_level(w: Tensor, z: Tensor, free: Tensor, fraction: float) -> Tensor:
    """The closest ``fraction`` of the free weights at every level, at least one per level.

    Args:
        w: The weights.
        z: The level nearest to each, same shape; equal values are one level.
        free: Boolean mask of the weights to choose from.
        fraction: In (0, 1]; the count of a level is rounded up. Ties go to the lower index.

    Returns:
        Boolean mask, True for those chosen.

    Example:
        >>> w, z = torch.tensor([1.1, 0.9, 1.4, 2.3]), torch.tensor([1.0, 1.0, 1.0, 2.0])
        >>> nearest_of_each_level(w, z, torch.tensor([True, False, True, True]), fraction=0.5)
        tensor([ True, False, False,  True])
    """
    index = free.flatten().nonzero().flatten()
    gap = (w - z).flatten()[index].abs()
    _, level, size = torch.unique(z.flatten()[index], return_inverse=True, return_counts=True)
    order = gap.argsort(stable=True)
    order = order[level[order].argsort(stable=True)]  # by level, then by distance, then by index
    begin = size.cumsum(0) - size
    rank = torch.arange(len(index), device=w.device) - begin[level[order]]
    wanted = (size.double() * fraction).ceil()
    chosen = torch.zeros_like(free).flatten()
    chosen[index[order[rank < wanted[level[order]]]]] = True
    return chosen.reshape(free.shape)


@dataclass(frozen=True, kw_only=True)
class GradualFreezing(Method):
    """Quantise a part, freeze it, train the rest, repeat.

    Args:
        rounds: How often a part is frozen, at equal intervals.
        fraction: Of a level's free weights per round, the closest first.
    """

    name = "freezing"
    title = "Gradual freezing"
    sentence = "Puts the weights on their levels part by part while the others train on (ADMM-NN)"

    rounds: Annotated[int, Ge(1)] = 8
    fraction: Annotated[float, Gt(0), Le(1)] = 0.3

    def attach(self, model: nn.Module, constraint: Constraint, setting: Setting) -> "Freezing":
        """A :class:`Freezing` handle; the constraint is one of levels (``quantise_plan``)."""
        if not (isinstance(constraint, OnLevels) and isinstance(constraint.inner, Within)):
            raise RequestError(
                f"freezing needs weights with levels, got {type(constraint).__name__}; "
                "give what quantise_plan returns"
            )
        return Freezing(
            model, constraint, setting.optimizer(model.parameters()),
            steps=setting.steps or 0, rounds=self.rounds, fraction=self.fraction, held=setting.held,
        )  # fmt: skip


class Freezing(Handle):
    """Puts the weights on their levels round by round while a loop trains the free ones.

    Rounds come at equal intervals of ``steps``, the first at once; after r of them a fraction
    ``(1 - fraction) ** r`` is still free, which :meth:`hard_prune_` projects.

    Args:
        model: Its parameters are changed in place.
        constraint: Which weights on which levels.
        optimizer: Whatever trains them.
        steps: Planned optimiser steps.
        rounds: How often a part is frozen, >= 1.
        fraction: Of a level's free weights per round, in (0, 1].
        held: Masks of zeros that stay held, those of other parameters among them.

    Attributes:
        q: The distance of the levels, by parameter name.

    Raises:
        RequestError: A number outside its range.

    Source: the released Caffe code of ADMM-NN (Ren et al. 2019), which freezes 30 % per round.

    Example:
        >>> from espalier.planning import quantise_plan
        >>> model = nn.Linear(4, 1, bias=False)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> freezing = Freezing(model, quantise_plan(model, 1), optimizer, steps=2, rounds=2)
        >>> for _ in range(2):
        ...     loss = model(torch.ones(1, 4)).square().sum()
        ...     loss.backward()
        ...     optimizer.step()
        ...     freezing.step(loss)
        >>> freezing.hard_prune_()
        >>> len(model.weight.detach().abs().unique())
        1
    """

    constraint: OnLevels
    approach = Approach(
        sentence="Gradual freezing puts the weights on their levels part by part, the nearest first; the free ones "
        "make up for it."
    )

    def __init__(
        self,
        model: nn.Module,
        constraint: OnLevels,
        optimizer: Optimizer | None = None,
        *,
        steps: int,
        rounds: int = 8,
        fraction: float = 0.3,
        held: Masks | None = None,
    ) -> None:
        GradualFreezing(rounds=rounds, fraction=fraction)  # the ranges are stated there
        if type(steps) is not int or steps < 0:
            raise RequestError(
                f"steps={steps!r}; give the planned optimiser steps, an integer >= 0"
            )
        super().__init__(model, constraint, optimizer)
        self.steps, self.rounds, self.fraction = steps, rounds, fraction
        w = self._weights()
        # What is held begins as the pruned zeros and grows by what each round freezes.
        survivors = {name: constraint.masks[name].to(w[name].device) for name in constraint.names}
        self._held = {**(held or {}), **survivors}
        self._frozen = {name: torch.zeros_like(w[name]) for name in constraint.names}
        self.q = {
            name: levels.step(w[name], support=self._held[name])
            for name, levels in constraint.levels.items()
        }
        self._round = 0
        self._advance_if_due()

    @property
    def fixed(self) -> Masks:
        """True where a weight no longer moves, pruned ones included; by parameter name."""
        return {name: ~free for name, free in self._held.items()}

    @property
    def frozen(self) -> float:
        """Fraction of the surviving weights that are on their levels and no longer move."""
        survivors = sum(int(mask.sum()) for mask in self.constraint.masks.values())
        free = sum(int(self._held[name].sum()) for name in self.constraint.names)
        return 1.0 - free / max(1, survivors)

    def _after_step_(self, loss: Tensor | float | None) -> None:
        """Hold what is frozen, and freeze the next part when its time has come."""
        self._hold_()
        self._advance_if_due()

    def target(self) -> Cut:
        """Frozen weights as they are, the others at their level; none of them moves after that."""
        nothing = {name: torch.zeros_like(self._held[name]) for name in self.constraint.names}
        return Cut(values=self._nearest(), free={**self._held, **nothing})

    def _hold_from_now_(self, cut: Cut) -> None:
        super()._hold_from_now_(cut)
        self._round = self.rounds

    @torch.no_grad()
    def _advance_if_due(self) -> None:
        due = 1 + self._count * self.rounds // self.steps if self.steps else self.rounds
        while self._round < min(self.rounds, due):
            self._round += 1
            w, z = self._weights(), self._nearest()
            before = {name: value.clone() for name, value in w.items()}
            for name in self.constraint.names:
                free = self._held[name]
                chosen = nearest_of_each_level(w[name], z[name], free, self.fraction)
                self._frozen[name] = torch.where(chosen, z[name], self._frozen[name])
                self._held = {**self._held, name: free & ~chosen}
            self._hold_()
            self._force(before, w)

    def _nearest(self) -> dict[str, Tensor]:
        """The point the weights would be cut to now."""
        w = self._weights()
        return {
            name: torch.where(
                self._held[name],
                levels.nearest(
                    w[name], self.q[name], self.constraint.masks[name].to(w[name].device)
                ),
                self._frozen[name],
            )
            for name, levels in self.constraint.levels.items()
        }

    def _weights(self) -> dict[str, Tensor]:
        return {name: self.model.get_parameter(name).detach() for name in self.constraint.names}

    def state_dict(self) -> dict[str, Any]:
        """Everything, as nested dicts of tensors and JSON scalars: resume is exact to the bit."""
        mine = {"round": self._round, "q": dict(self.q)}
        return {**super().state_dict(), **mine}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``, into a handle made with the same arguments."""
        super().load_state_dict(saved)
        self._round, self.q = saved["round"], dict(saved["q"])
