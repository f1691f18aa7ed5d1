"""Structured sparsity learning: a group lasso on filters, channels, shapes and layers, and what it leaves."""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.optim import Optimizer

from espalier._ground.types import Masks, Weights
from espalier.errors import RequestError
from espalier.methods._group_lasso import Groups, groups_of
from espalier.methods._method import Cut, Method, Setting
from espalier.methods._priced import Priced
from espalier.methods._units import already_zero, vectors_follow
from espalier.sets import Constraint
from espalier.solvers import Approach


@dataclass(frozen=True, kw_only=True)
class SSL(Method):
    r"""Training with a price on the norm of every group, :math:`f(W) + \sum_g \lambda_g \|w_g\|_2`.

    Groups are those of the plan's tensors: their filters, channels, filter shapes (columns of the matrix), and
    whole layers, where a shortcut leads around them. The prices decide what stays: the plan's budget plays no
    part unless ``onto_plan``. Train with SGD: Adam divides the price away.

    Args:
        filters: λ_n >= 0, price of the norm of a filter W[o].
        channels: λ_c >= 0, of an input channel W[:, i].
        shapes: λ_s >= 0, of a position of all filters, W[:, i, a, b].
        depth: λ_d >= 0, of a whole layer.
        proximal: Shrink the norms after every step, to exact zeros; False: add the sub-gradient, as the paper's
            code does, whose groups come near zero and are cut by ``threshold``.
        threshold: Groups of at most this norm go with the cut.
        onto_plan: Let the cut also project onto the plan's budget, for tables at equal density.

    Raises:
        RequestError: A number outside its range, or no price at all.

    Source: Wen et al., NeurIPS 2016 (arXiv:1608.03665).
    """

    name = "ssl"
    title = "SSL group lasso"
    sentence = (
        "A price on the norms of filters, channels, shapes or layers lets whole ones go to zero"
    )

    filters: Annotated[float, Ge(0)] = 1e-3
    channels: Annotated[float, Ge(0)] = 0.0
    shapes: Annotated[float, Ge(0)] = 0.0
    depth: Annotated[float, Ge(0)] = 0.0
    proximal: bool = True
    threshold: Annotated[float, Ge(0)] = 1e-4
    onto_plan: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.filters or self.channels or self.shapes or self.depth):
            raise RequestError(
                "ssl without a price leaves every group; give filters, channels, shapes or depth > 0"
            )

    def attach(self, model: nn.Module, constraint: Constraint, setting: Setting) -> "Lasso":
        """A :class:`Lasso` handle with the stage's optimiser."""
        return Lasso(
            model, constraint, self, setting.optimizer(model.parameters()), held=setting.held
        )


class Lasso(Priced):
    """A group lasso at work on one model.

    Args:
        model: The model being trained.
        constraint: Whose tensors have the prices; with ``onto_plan`` also what the cut leaves.
        method: The prices.
        optimizer: Whatever trains it; its learning rates are those of the proximal steps.
        held: Masks of zeros that are held from the beginning.
    """

    approach = Approach(
        sentence="The prices shrink the groups in training; the cut takes those that are small then.",
        remedy="raise the prices",
    )

    optimizer: Optimizer

    def __init__(
        self,
        model: nn.Module,
        constraint: Constraint,
        method: SSL,
        optimizer: Optimizer,
        held: Masks | None = None,
    ) -> None:
        super().__init__(model, constraint, optimizer)
        self.method = method
        self._groups = {name: self._groups_of(name) for name in constraint.names}
        self._held = {**(held or {}), **constraint.held}
        self._hold_()

    @torch.no_grad()
    def regulariser(self) -> float:
        """R(W) now; for logging, it is in no gradient."""
        return sum(
            each.price * float(each.norms(w).sum())
            for name, w in self._weights().items()
            for each in self._groups[name]
        )

    @torch.no_grad()
    def add_gradients_(self) -> None:
        """∂R(W), unless the steps are proximal."""
        if self.method.proximal or self._cut:
            return
        for name, w in self._weights().items():
            gradient = self.model.get_parameter(name).grad
            for each in self._groups[name] if gradient is not None else ():
                assert gradient is not None
                gradient.add_(each.subgradient(w))

    @torch.no_grad()
    def _after_step_(self, loss: Tensor | float | None) -> None:
        """Shrink the groups if the steps are proximal; record evidence when it is due."""
        if self.method.proximal and not self._cut:
            self._shrink_()
        super()._after_step_(loss)

    def _shrink_(self) -> None:
        steps = {}
        for group in self.optimizer.param_groups:
            # At rest momentum makes every step 1/(1 − β) times as long, so the shrinking has to be as well.
            step = float(group["lr"]) / (1.0 - float(group.get("momentum", 0.0)))
            steps.update({id(p): step for p in group["params"]})
        for name, groups in self._groups.items():
            parameter = self.model.get_parameter(name)
            for each in groups:
                parameter.copy_(each.shrunk(parameter, steps.get(id(parameter), 0.0)))

    @torch.no_grad()
    def target(self) -> Cut:
        """W without its groups of small norm and what only they reach; with ``onto_plan`` Π_S of that."""
        if self._cut:
            return Cut(values={}, free=self._held)
        w = self._weights()
        masks: dict[str, Tensor] = {n: torch.ones_like(v, dtype=torch.bool) for n, v in w.items()}
        left = -1
        # A group may fall below the threshold when others that cross it go: until nothing changes.
        while left != (left := sum(int(m.sum()) for m in masks.values())):
            for name in w:
                for each in self._groups[name]:
                    masks[name] &= each.alive(w[name] * masks[name], self.method.threshold)
            masks = self._with_implied(masks)
        values: Weights = {n: w[n].where(masks[n], 0) for n in w}
        if self.method.onto_plan:
            masks = self._with_implied(masks | self.constraint.support(values))
            values = {n: v.where(masks[n], 0) for n, v in self.constraint.project(values).items()}
        free = {n: m & self._held[n] if n in self._held else m for n, m in masks.items()}
        return Cut(values=values, free={**self._held, **free})

    def nothing_to_cut(self) -> bool:
        """Whether the groups that would go are zero already, and all that goes with them; ``onto_plan``: W ∈ S."""
        if self.method.onto_plan:
            return super().nothing_to_cut()
        return already_zero(self.model, self.target().free)

    def _with_implied(self, masks: dict[str, Tensor]) -> dict[str, Tensor]:
        """And without what their zeros make irrelevant: biases, BatchNorm's γ and β, what reads them."""
        masks = vectors_follow(self.constraint, masks)
        implied = self.constraint.implied(masks, dict(self.model.named_parameters()))
        return {**masks, **{n: m & masks[n] if n in masks else m for n, m in implied.items()}}

    def _groups_of(self, name: str) -> tuple[Groups, ...]:
        method, layer = self.method, self.model.get_submodule(name.rpartition(".")[0])
        shape = self.model.get_parameter(name).shape
        if len(shape) < 2:  # a bias, γ or β that goes with its filter has no norm of its own
            return ()
        return groups_of(
            shape, shapes=method.shapes, channels=method.channels,
            filters=method.filters, depth=method.depth,
            convolution_groups=int(getattr(layer, "groups", 1)),
        )  # fmt: skip
