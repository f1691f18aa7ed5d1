r"""Quantise a part, freeze it, retrain the rest, repeat (ADMM-NN's quantised retraining).

Of the weights that stand nearest to a level and are still free, the closest 30 % are put on it and frozen,
level by level; the free ones are trained on and make up for the error; at the end the rest is projected. The
distance q of a tensor's levels is fixed at the start: what is frozen lies on it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from espalier._ground.types import Weights
from espalier.errors import RequestError
from espalier.methods._certificate import Update
from espalier.methods._holding import AfterStep
from espalier.methods._quantising import Quantisation


def nearest_of_each_level(w: Tensor, z: Tensor, free: Tensor, fraction: float) -> Tensor:
    """The closest ``fraction`` of the free weights at every level, at least one a level.

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


class Freezing(AfterStep):
    """Puts the weights on their levels round by round while any loop trains with any torch optimiser.

    It needs nothing of the loop: a post-step hook counts the steps, opens the rounds and puts the frozen
    weights (and the pruned zeros) back after each one. ``fit`` takes it in place of a ``Pruning``.

    Rounds come at equal intervals of ``steps``, the first at once; after r of them a fraction
    ``(1 - fraction) ** r`` is still free, which :meth:`hard_prune_` projects.

    Args:
        model: Its parameters are changed in place.
        constraint: Which weights on which levels.
        optimizer: Whatever trains them; any subclass of ``torch.optim.Optimizer``.
        steps: Planned optimiser steps.
        rounds: How often a part is frozen, >= 1.
        fraction: Of a level's free weights a round, in (0, 1].

    Attributes:
        fixed: By parameter name, bool: True where a weight no longer moves, pruned ones included.
        q: The distance of the levels, by parameter name.

    Raises:
        RequestError: A number outside its range.

    Source: the released Caffe code of ADMM-NN (Ren et al. 2019), which freezes 30 % a round.

    Example:
        >>> from espalier.methods._quantising import quantise_plan
        >>> model = nn.Linear(4, 1, bias=False)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with Freezing(model, quantise_plan(model, 1), optimizer, steps=2, rounds=2) as freezing:
        ...     for _ in range(2):
        ...         model(torch.ones(1, 4)).square().sum().backward()
        ...         optimizer.step()
        ...     freezing.hard_prune_()
        >>> len(model.weight.detach().abs().unique())
        1
    """

    def __init__(
        self,
        model: nn.Module,
        constraint: Quantisation,
        optimizer: Optimizer,
        *,
        steps: int,
        rounds: int = 8,
        fraction: float = 0.3,
    ) -> None:
        if steps < 0 or rounds < 1 or not 0 < fraction <= 1:
            raise RequestError(
                f"steps={steps}, rounds={rounds}, fraction={fraction}; give steps >= 0, rounds >= 1 "
                "and a fraction in (0, 1]"
            )
        constraint.check(model)
        self.model, self.plan = model, constraint
        self.steps, self.rounds, self.fraction = steps, rounds, fraction
        self.updates: list[Update] = []
        w = self._weights()
        self.fixed = {name: ~constraint.masks[name].to(w[name].device) for name in constraint.names}
        self.q = {
            name: levels.step(w[name], support=~self.fixed[name])
            for name, levels in constraint.levels.items()
        }
        self._count = self._round = 0
        self._values = {name: torch.zeros_like(w[name]) for name in constraint.names}
        self._advance_if_due()
        self._follow(optimizer)

    @property
    def frozen(self) -> float:
        """Fraction of the surviving weights that are on their levels and no longer move."""
        survivors = sum(int(mask.sum()) for mask in self.plan.masks.values())
        free = sum(int((~fixed).sum()) for fixed in self.fixed.values())
        return 1.0 - free / max(1, survivors)

    @torch.no_grad()
    def hard_prune_(self) -> None:
        """Project what is still free, for good; from here on nothing of it moves."""
        self._fix_({name: ~fixed for name, fixed in self.fixed.items()})
        self._round = self.rounds

    @contextmanager
    def hard_pruned(self) -> Iterator[None]:
        """The model as if all of it were on levels now; the weights come back, bit for bit, on exit."""
        saved = {name: w.clone() for name, w in self._weights().items()}
        try:
            self._write_(self._nearest())
            yield
        finally:
            self._write_(saved)

    def add_gradients_(self) -> None:
        """Nothing: the free weights follow the loss alone."""

    def step(self, loss: Tensor | float) -> None:
        """Nothing: the optimiser's hook has done it."""

    def state_dict(self) -> dict[str, Any]:
        """Everything, as nested dicts of tensors and JSON scalars: resume is exact to the bit."""
        return {
            "count": self._count, "round": self._round, "q": dict(self.q),
            "fixed": dict(self.fixed), "values": dict(self._values),
        }  # fmt: skip

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``, into a handle made with the same arguments."""
        self._count, self._round, self.q = saved["count"], saved["round"], dict(saved["q"])
        self.fixed, self._values = dict(saved["fixed"]), dict(saved["values"])

    @torch.no_grad()
    def _after_step(self, *_: Any) -> None:
        self._count += 1
        self._hold_()
        self._advance_if_due()

    @torch.no_grad()
    def _advance_if_due(self) -> None:
        due = 1 + self._count * self.rounds // self.steps if self.steps else self.rounds
        while self._round < min(self.rounds, due):
            self._round += 1
            w, z = self._weights(), self._nearest()
            self._fix_(
                {
                    name: nearest_of_each_level(w[name], z[name], ~fixed, self.fraction)
                    for name, fixed in self.fixed.items()
                }
            )

    def _fix_(self, chosen: Mapping[str, Tensor]) -> None:
        z = self._nearest()
        self._values = {n: torch.where(chosen[n], z[n], v) for n, v in self._values.items()}
        self.fixed = {name: fixed | chosen[name] for name, fixed in self.fixed.items()}
        self._hold_()

    def _hold_(self) -> None:
        w = self._weights()
        self._write_({n: torch.where(self.fixed[n], self._values[n], w[n]) for n in w})

    def _nearest(self) -> dict[str, Tensor]:
        """The point the weights would be cut to now: frozen ones as they are, the others at their level."""
        w = self._weights()
        return {
            name: torch.where(
                self.fixed[name],
                self._values[name],
                levels.nearest(w[name], self.q[name], self.plan.masks[name].to(w[name].device)),
            )
            for name, levels in self.plan.levels.items()
        }

    def _weights(self) -> dict[str, Tensor]:
        return {name: self.model.get_parameter(name).detach() for name in self.plan.names}

    @torch.no_grad()
    def _write_(self, values: Weights) -> None:
        for name, value in values.items():
            self.model.get_parameter(name).copy_(value)
