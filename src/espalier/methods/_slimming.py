r"""Network slimming: BatchNorm's scales are priced in training, and channels of small scale go.

Legend (paper → here): γ ``gamma``, one of each channel; λ ``l1``; g(γ) = |γ|.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.optim import Optimizer

from espalier._ground.types import Masks
from espalier.errors import RequestError
from espalier.methods._method import Cut, Method, Setting
from espalier.methods._priced import Priced
from espalier.methods._units import already_zero, coupled_parts
from espalier.sets import Constraint, Coupled, Product
from espalier.sets._along import STAYS
from espalier.sets._select import largest
from espalier.solvers import Approach


@dataclass(frozen=True, kw_only=True)
class Slimming(Method):
    r"""ℓ1 on BatchNorm's scales, :math:`f(W) + \lambda \sum |\gamma|`; the channels of largest γ² stay.

    The plan is one of whole channels (``set: filters``, measured on the task's example). A channel that runs
    through several BatchNorms, as behind residual adds, counts by the sum of its γ².

    Args:
        l1: λ >= 0, by its sub-gradient λ sgn(γ).
        shared: Let all layers compete, as in the paper: as many channels stay as the plan keeps in all, one at
            least in each group of tied ones, wherever γ is largest. False: the plan's own count in each.

    Raises:
        RequestError: A number outside its range.

    Source: Liu, Li, Shen, Huang, Yan & Zhang, ICCV 2017 (arXiv:1708.06519), equation (1).
    """

    name = "slimming"
    title = "Network slimming"
    sentence = "A price on BatchNorm's scales; the channels of small scale go (ICCV 2017)"

    l1: Annotated[float, Ge(0)] = 1e-4
    shared: bool = True

    def attach(self, model: nn.Module, constraint: Constraint, setting: Setting) -> "Slimmed":
        """A :class:`Slimmed` handle with the stage's optimiser.

        Raises:
            RequestError: A plan without coupled channels, or channels that no BatchNorm scales.
        """
        return Slimmed(
            model, constraint, self, setting.optimizer(model.parameters()), held=setting.held
        )


class Slimmed(Priced):
    """Network slimming at work on one model.

    Args:
        model: The model being trained.
        constraint: A plan of whole channels.
        method: The price, and who competes with whom.
        optimizer: Whatever trains it.
        held: Masks of zeros that are held from the beginning.
    """

    approach = Approach(
        sentence="The price shrinks BatchNorm's scales in training, not the weights; the cut takes whole channels.",
    )

    def __init__(
        self,
        model: nn.Module,
        constraint: Constraint,
        method: Slimming,
        optimizer: Optimizer | None = None,
        held: Masks | None = None,
    ) -> None:
        super().__init__(model, constraint, optimizer)
        self.method = method
        self._parts = coupled_parts(constraint)
        if not self._parts or sum(len(p.names) for p in self._parts) < len(constraint.names):
            raise RequestError(
                "slimming takes whole channels out; plan with set: filters for all planned tensors, and with "
                "example_input="
            )
        self._scales = [name for part in self._parts for name in part.names if self._is_scale(name)]
        for part in self._parts:
            _check_scaled(part, self._scales)
        self._held = {**(held or {}), **constraint.held}
        self._hold_()

    @torch.no_grad()
    def add_gradients_(self) -> None:
        """∂/∂γ of λ Σ|γ|: λ sgn(γ)."""
        for name in () if self._cut else self._scales:
            gamma = self.model.get_parameter(name)
            if gamma.grad is not None:
                gamma.grad.add_(gamma.sign(), alpha=self.method.l1)

    @torch.no_grad()
    def target(self) -> Cut:
        """The channels of largest γ², with all that runs through them."""
        if self._cut:
            return Cut(values={}, free=self._held)
        parameters = {n: p.detach() for n, p in self.model.named_parameters()}
        w = {name: parameters[name] for name in self.constraint.names}
        # In this norm the energy of a channel is the γ² of its BatchNorms, and nothing else counts.
        h = {
            n: torch.ones_like(v) if n in self._scales else torch.zeros_like(v)
            for n, v in w.items()
        }
        which = self._competing(w) if self.method.shared else self.constraint
        masks = which.support(w, h)
        masks |= which.implied(masks, parameters)
        free = {n: m & self._held[n] if n in self._held else m for n, m in masks.items()}
        values = {n: v.where(free[n], 0) for n, v in w.items()}
        return Cut(values=values, free={**self._held, **free})

    def nothing_to_cut(self) -> bool:
        """Whether all that would go is zero already."""
        return already_zero(self.model, self.target().free)

    def _competing(self, w: Mapping[str, Tensor]) -> Constraint:
        """The same channels with other counts: as many in all, by γ² over all of them."""
        parts = []
        for part in self._parts:
            squares = torch.zeros(
                sum(part.sizes), dtype=torch.float64, device=next(iter(w.values())).device
            )
            for name in part.names:
                if name in self._scales:
                    units = torch.tensor(part.members[name].units, device=squares.device)
                    inside = units >= 0
                    squares.index_add_(0, units[inside], w[name].double().square()[inside])
            groups = torch.split(squares, list(part.sizes))
            first = [
                g.masked_fill(largest(g, min(1, k)), torch.inf)
                for g, k in zip(groups, part.keep, strict=True)
            ]
            chosen = torch.split(largest(torch.cat(first), sum(part.keep)), list(part.sizes))
            parts.append(part.with_keep([int(one.sum()) for one in chosen]))
        shapes = {name: tuple(value.shape) for name, value in w.items()}
        return Product(parts=tuple(parts), shapes=shapes)

    def _is_scale(self, name: str) -> bool:
        layer, _, attribute = name.rpartition(".")
        norm = nn.modules.batchnorm._BatchNorm
        return attribute == "weight" and isinstance(self.model.get_submodule(layer), norm)


def _check_scaled(part: Coupled, scales: list[str]) -> None:
    """Refuse units that run through no BatchNorm: they would all look worthless."""
    scaled = {u for name in part.names if name in scales for u in part.members[name].units}
    for name in part.names:
        if not set(part.members[name].units) <= scaled | {STAYS}:
            raise RequestError(
                f"{name}: no BatchNorm scales its channels, so slimming cannot rank them; leave it out of "
                "the plan (exclude:), or choose another method"
            )
