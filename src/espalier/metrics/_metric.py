"""In which norm "nearest" is meant: a diagonal H, so that ‖v‖²_H = Σ hᵢ vᵢ².

A :class:`Metric` is a frozen choice; its :class:`Gauge` is what measures H on one model while it trains.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from espalier._ground.registry import Family
from espalier._ground.types import Weights
from espalier._ground.world import World


class Gauge:
    """Measures the diagonal of H on one model. The plain norm needs nothing."""

    sees_gradients: ClassVar[bool] = False
    """Whether H is measured by :meth:`observe`, which then is to be called at every step."""

    def observe(self, gradients: Weights) -> None:
        """See the loss's own gradients, once per step, before anything is added to them."""

    def share_(self, world: World) -> None:
        """Replace what was measured on this rank's part of the data by the mean over the ranks.

        Gradients are such means already; only what looks at activations has something to do.
        """

    def diagonal(self, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor] | None:
        """H per parameter, shapes of the weights, ≥ 0; ``None`` for the plain norm or before it is known."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """Tensors and scalars, for exact resume."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``."""

    def close(self) -> None:
        """Take hooks off the model."""


@dataclass(frozen=True)
class Metric(Family, ABC):
    """A choice of norm."""

    @abstractmethod
    def gauge(
        self, model: nn.Module, names: tuple[str, ...], optimizer: torch.optim.Optimizer | None
    ) -> Gauge:
        """What measures this metric on ``model`` for the parameters ``names``."""


@dataclass(frozen=True)
class Identity(Metric):
    """The plain Euclidean norm: the largest weights stay."""

    name = "identity"
    sentence = "the plain norm: the largest weights stay"

    def gauge(
        self, model: nn.Module, names: tuple[str, ...], optimizer: torch.optim.Optimizer | None
    ) -> Gauge:
        return Gauge()
