"""Optimisers and learning-rate schedules, as data: what a recipe can say of them."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import nn

from espalier._ground.registry import Family
from espalier.errors import RequestError


@dataclass(frozen=True, kw_only=True)
class Optimiser(Family, ABC):
    """A rule by which gradients move weights.

    Args:
        weight_decay: Coefficient of ½‖W‖² (of the decoupled decay, for AdamW), over all parameters.
    """

    weight_decay: Annotated[float, Ge(0)] = 0.0

    @abstractmethod
    def over(self, parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """The optimiser of these parameters, at learning rate ``lr``."""


@dataclass(frozen=True, kw_only=True)
class Adam(Optimiser):
    """Adam (Kingma & Ba 2015).

    Args:
        beta1: Decay of the first moment, in [0, 1).
        beta2: Decay of the second moment, in [0, 1).
        eps: Added to the root of the second moment, > 0.
    """

    name = "adam"

    beta1: Annotated[float, Ge(0), Lt(1)] = 0.9
    beta2: Annotated[float, Ge(0), Lt(1)] = 0.999
    eps: Annotated[float, Gt(0)] = 1e-8

    def over(self, parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        return torch.optim.Adam(
            parameters, lr, (self.beta1, self.beta2), self.eps, self.weight_decay, foreach=True
        )


@dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    name = "adamw"

    weight_decay: Annotated[float, Ge(0)] = 0.01

    def over(self, parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            parameters, lr, (self.beta1, self.beta2), self.eps, self.weight_decay, foreach=True
        )


@dataclass(frozen=True, kw_only=True)
class SGD(Optimiser):
    """Stochastic gradient descent.

    Args:
        momentum: Of the heavy ball, in [0, 1).
        nesterov: Whether in Nesterov's form; wants momentum.
    """

    name = "sgd"

    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    nesterov: bool = False

    def over(self, parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        if self.nesterov and not self.momentum:
            raise RequestError(
                "nesterov: true wants momentum > 0; give momentum, or leave nesterov out"
            )
        return torch.optim.SGD(
            parameters, lr, self.momentum,
            weight_decay=self.weight_decay, nesterov=self.nesterov, foreach=True,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LearningRate(Family, ABC):
    """A schedule of the learning rate over one phase, moved at every step.

    Args:
        warmup: Epochs over which it rises from (almost) nothing, in a straight line.
    """

    warmup: Annotated[float, Ge(0)] = 0.0

    @abstractmethod
    def shape(self, epoch: float, epochs: int) -> float:
        """The factor on lr after ``epoch`` (a fraction counts) of ``epochs``."""

    def factor(self, epoch: float, epochs: int) -> float:
        """The same, warm-up included.

        >>> Cosine(warmup=1.0).factor(0.5, 8)
        0.5
        """
        if epoch < self.warmup:
            return max(epoch / self.warmup, 1e-3)
        return self.shape(epoch, epochs)

    def over(
        self, optimizer: torch.optim.Optimizer, epochs: int, steps_per_epoch: int
    ) -> torch.optim.lr_scheduler.LambdaLR:
        """The torch scheduler, to be stepped after every optimiser step."""
        return torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: self.factor(step / steps_per_epoch, epochs)
        )


@dataclass(frozen=True, kw_only=True)
class Flat(LearningRate):
    """One learning rate throughout."""

    name = "constant"

    def shape(self, epoch: float, epochs: int) -> float:
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Cosine(LearningRate):
    """Half a cosine from lr down to ``floor`` · lr over the phase (Loshchilov & Hutter 2017).

    Args:
        floor: What is left at the end, a fraction of lr in [0, 1].
    """

    name = "cosine"

    floor: Annotated[float, Ge(0), Le(1)] = 0.0

    def shape(self, epoch: float, epochs: int) -> float:
        along = min(1.0, (epoch - self.warmup) / max(epochs - self.warmup, 1e-9))
        return self.floor + (1.0 - self.floor) * 0.5 * (1.0 + math.cos(math.pi * along))


@dataclass(frozen=True, kw_only=True)
class Step(LearningRate):
    """lr · ``factor_each`` ^ (whole multiples of ``every`` epochs).

    Args:
        every: Epochs between two falls.
        factor_each: What each fall leaves, in (0, 1].
    """

    name = "step"

    every: Annotated[int, Ge(1)]
    factor_each: Annotated[float, Gt(0), Le(1)] = 0.1

    def shape(self, epoch: float, epochs: int) -> float:
        return float(self.factor_each ** int(epoch / self.every + 1e-9))


@dataclass(frozen=True, kw_only=True)
class Milestones(LearningRate):
    """lr · ``factor_each`` ^ (how many of the ``epochs`` are behind).

    Args:
        at: The epochs after which it falls.
        factor_each: What each fall leaves, in (0, 1].
    """

    name = "milestones"

    at: list[float]
    factor_each: Annotated[float, Gt(0), Le(1)] = 0.1

    def shape(self, epoch: float, epochs: int) -> float:
        return float(self.factor_each ** sum(epoch >= milestone - 1e-9 for milestone in self.at))
