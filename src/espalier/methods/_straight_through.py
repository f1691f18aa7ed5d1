r"""A step function that learns: h(m) = 1[m > 0] forward, an estimator's derivative backward.

    symbol      here          meaning
    w           w             a weight
    m           m             its auxiliary parameter; one m may serve a whole filter
    h(m)        opened        1 where m > 0, else 0: the gate
    t           t             w · h(m), what the network sees
    h'(m)       slope         the estimator's stand-in for the derivative of h, which is 0 nearly everywhere
    G           grad          ∂L/∂t
    sgn(w)      signs         1 where w >= 0, else −1

The chain rule would give ∂L/∂m = G · w · h'(m): a small weight could hardly be judged at all. AutoPrune takes
the weight's sign instead, G · sgn(w) · h'(m). That is ∂L/∂|t| · h'(m), for G · sgn(w) is the derivative of
the loss along the size of the weight: m grows where the loss would fall if the weight were larger. And G is
there where the gate is closed, so that what went can come back.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Gt, Lt
from torch import Tensor

from espalier._ground.registry import Family


@dataclass(frozen=True)
class Estimator(Family, ABC):
    """The stand-in for the derivative of the step function."""

    @abstractmethod
    def slope(self, m: Tensor) -> Tensor:
        """h'(m) >= 0, elementwise: shape, dtype and device of ``m``."""


@dataclass(frozen=True)
class Linear(Estimator):
    """h' = 1 everywhere: the plain straight-through estimator.

    >>> Linear().slope(torch.tensor([-2.0, 0.0, 2.0]))
    tensor([1., 1., 1.])
    """

    name = "linear"
    sentence = "1 everywhere"

    def slope(self, m: Tensor) -> Tensor:
        return torch.ones_like(m)


@dataclass(frozen=True)
class ReLU(Estimator):
    """h' = 1[m > 0]: what is closed has no gradient, so that nothing comes back.

    >>> ReLU().slope(torch.tensor([-2.0, 0.0, 2.0]))
    tensor([0., 0., 1.])
    """

    name = "relu"
    sentence = "1 where the gate is open, 0 where it is closed: nothing comes back"

    def slope(self, m: Tensor) -> Tensor:
        return (m > 0).to(m.dtype)


@dataclass(frozen=True)
class LeakyReLU(Estimator):
    """h' = 1 for m >= 0, else a: what is closed comes back slowly.

    >>> LeakyReLU(0.25).slope(torch.tensor([-2.0, 0.0, 2.0]))
    tensor([0.2500, 1.0000, 1.0000])
    """

    name = "leaky"
    sentence = "1 where the gate is open, `a` where it is closed"

    a: Annotated[float, Gt(0), Lt(1)] = 0.1

    def slope(self, m: Tensor) -> Tensor:
        return torch.where(m >= 0, 1.0, self.a).to(m.dtype)


@dataclass(frozen=True)
class Softplus(Estimator):
    """h' = σ(m), the derivative of log(1 + eᵐ).

    >>> Softplus().slope(torch.tensor([0.0]))
    tensor([0.5000])
    """

    name = "softplus"
    sentence = "σ(m): smaller the further the gate is closed"

    def slope(self, m: Tensor) -> Tensor:
        return torch.sigmoid(m)


def opened(m: Tensor) -> Tensor:
    """h(m): 1 where m > 0, else 0, in the dtype of ``m``."""
    return (m > 0).to(m.dtype)


def signs(w: Tensor) -> Tensor:
    """sgn(w), with sgn(0) = 1: a weight at exactly zero could otherwise never come back."""
    return torch.where(w < 0, -1.0, 1.0).to(w.dtype)


class _Gate(torch.autograd.Function):
    """t = w · h(m) with the two gradients of AutoPrune."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, m: Tensor, estimator: Estimator) -> Tensor:
        ctx.save_for_backward(w, m)
        ctx.estimator = estimator
        return torch.where(m > 0, w, 0)  # not a product: what is closed is +0.0, whatever it holds

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        w, m = ctx.saved_tensors
        of_w = grad * (m > 0) if ctx.needs_input_grad[0] else None
        of_m = None
        if ctx.needs_input_grad[1]:  # one m for a filter hears all of its weights
            of_m = (grad * signs(w)).sum_to_size(m.shape).to(m.dtype) * ctx.estimator.slope(m)
        return of_w, of_m, None


def gate(w: Tensor, m: Tensor, estimator: Estimator) -> Tensor:
    r"""The product w · h(m), with the two gradients of AutoPrune.

    .. math:: \frac{\partial L}{\partial w} = G\,h(m), \qquad
              \frac{\partial L}{\partial m} = \sum G\,\operatorname{sgn}(w)\,h'(m)

    Args:
        w: Weights, any shape, floating.
        m: Auxiliary parameters, of a shape that broadcasts to that of ``w``; its gradient is the sum over
            the weights that one of them serves.
        estimator: Whose h'.

    Source: Xiao, Wang & Rajasekaran, "AutoPrune", NeurIPS 2019.

    Example:
        >>> w = torch.tensor([3.0, -0.5, 2.0], requires_grad=True)
        >>> m = torch.tensor([1.0, 1.0, -1.0], requires_grad=True)
        >>> t = gate(w, m, LeakyReLU(0.5)); t.detach()
        tensor([ 3.0000, -0.5000,  0.0000])
        >>> t.backward(torch.tensor([0.5, 0.5, 0.5])); w.grad, m.grad
        (tensor([0.5000, 0.5000, 0.0000]), tensor([ 0.5000, -0.5000,  0.2500]))
    """
    t: Tensor = _Gate.apply(w, m, estimator)  # type: ignore[no-untyped-call]
    return t
