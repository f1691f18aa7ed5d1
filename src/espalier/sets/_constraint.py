"""What the weights of a model may be: the question that every set, budget, plan and quantisation answers.

A constraint is a frozen choice and a few pure functions of tensors by name. It knows no model and no method.
"""

from typing import Protocol, Self, runtime_checkable

from torch import Tensor, nn

from espalier._ground.types import Masks, Weights


@runtime_checkable
class Constraint(Protocol):
    r"""A set :math:`S` of points :math:`(W_1, \dots, W_L)` over named tensors, with its projection.

    .. math:: \Pi_S(W) = \arg\min_{Z \in S} \sum_l \sum_i h_{l,i} (z_{l,i} - w_{l,i})^2
    """

    @property
    def names(self) -> tuple[str, ...]:
        """The constrained parameters, in the model's order."""
        ...

    @property
    def density(self) -> float:
        """Fraction of their weights that may stay, in [0, 1]."""
        ...

    @property
    def held(self) -> Masks:
        """Masks of zeros that no point of S may leave, whatever the weights are; often empty."""
        ...

    def check(self, model: nn.Module) -> None:
        """Raise unless the model has the parameters, in their shapes."""
        ...

    def opened(self, slack: float) -> Self | "Constraint":
        """S opened the fraction ``slack`` of the way to dense: itself at 0, all points at 1."""
        ...

    def support(self, w: Weights, h: Weights | None = None) -> dict[str, Tensor]:
        """Boolean masks of Π_S(W): where the nearest point may be nonzero."""
        ...

    def project(self, w: Weights, h: Weights | None = None) -> dict[str, Tensor]:
        """Π_S(W): new tensors off the graph, one per name, nearest in the diagonal metric ``h``."""
        ...

    def contains(self, w: Weights) -> bool:
        """Whether W ∈ S, exactly: a cut would change nothing."""
        ...

    def implied(self, masks: Masks, parameters: Weights) -> dict[str, Tensor]:
        """Masks of what the zeros of ``masks`` make irrelevant in all parameters; ``{}`` for most."""
        ...
