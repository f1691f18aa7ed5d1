"""Support inside given masks: the survivors of weights that are pruned already."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from espalier._ground.types import Masks, Weights
from espalier.errors import ShapeError, UnknownNameError, nearest


@dataclass(frozen=True, eq=False)
class Within:
    r"""Weights outside the masks are zero, and are held there from the first step.

    .. math:: S = \{z : z_i = 0 \;\forall i \text{ with } m_i = 0\}, \qquad \Pi_S(W) = m \odot W

    The nearest point in every diagonal metric. There is nothing to open.

    Args:
        masks: By parameter name, bool, shape of the parameter: True for a survivor.

    Example:
        >>> Within({"w": torch.tensor([True, False])}).project({"w": torch.tensor([2.0, 3.0])})
        {'w': tensor([2., 0.])}
    """

    masks: Masks

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters with a mask."""
        return tuple(self.masks)

    @property
    def density(self) -> float:
        """Fraction of the weights that survive."""
        survivors = sum(int(mask.sum()) for mask in self.masks.values())
        return survivors / max(1, sum(mask.numel() for mask in self.masks.values()))

    @property
    def held(self) -> Masks:
        """The masks."""
        return self.masks

    def check(self, model: nn.Module) -> None:
        """Raise unless the model has every parameter, in the shape of its mask.

        Raises:
            UnknownNameError: A parameter that the model does not have; the nearest is suggested.
            ShapeError: A parameter of another shape.
        """
        parameters = dict(model.named_parameters())
        for name in self.masks:
            if name not in parameters:
                raise UnknownNameError(
                    f"a mask for {name!r}, which the model does not have; "
                    f"{nearest(name, parameters)}"
                )
            self._mask(parameters, name)

    def opened(self, slack: float) -> "Within":
        """Itself."""
        return self

    def support(self, w: Weights, h: Weights | None = None) -> dict[str, Tensor]:
        """The masks, on the devices of the weights.

        Raises:
            UnknownNameError: A parameter without weights.
            ShapeError: Weights of another shape.
        """
        return {name: self._mask(w, name) for name in self.masks}

    def project(self, w: Weights, h: Weights | None = None) -> dict[str, Tensor]:
        """The survivors as they are, zero elsewhere; detached. Errors are those of :meth:`support`."""
        return {n: torch.where(m, w[n].detach(), 0) for n, m in self.support(w).items()}

    def contains(self, w: Weights) -> bool:
        """Whether all weights outside the masks are zero."""
        return not any(bool(w[n].detach()[~mask].any()) for n, mask in self.support(w).items())

    def implied(self, masks: Masks, parameters: Weights) -> dict[str, Tensor]:
        """Nothing: what is zero already stays so."""
        return {}

    def _mask(self, weights: Weights, name: str) -> Tensor:
        if name not in weights:
            raise UnknownNameError(f"no weights given for {name!r}; {nearest(name, weights)}")
        w, mask = weights[name], self.masks[name]
        if w.shape != mask.shape:
            raise ShapeError(
                f"{name}: shape {tuple(w.shape)} but its mask has {tuple(mask.shape)}; "
                "read the zeros of this model anew"
            )
        return mask.to(w.device)
