"""Hold zeros in place through any optimiser.

Masking gradients is not enough: momentum, Adam's moments and weight decay all move a weight whose
gradient is zero. What holds is to multiply by the mask again *after* each step.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor
from torch.optim import Optimizer

from espalier._ground.sharding import local
from espalier._ground.types import Masks, Weights
from espalier.errors import ShapeError, UnknownNameError, nearest


@torch.no_grad()
def hold_(parameters: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> None:
    r"""Set every weight outside its mask to zero, in place: ``w <- w * mask``.

    Fused over all tensors, outside autograd, idempotent. The zeros are +0.0, never -0.0. A weight
    that is NaN or infinite becomes NaN: a diverged run is not hidden under its mask.

    Args:
        parameters: Tensors by name, as ``dict(model.named_parameters())``; any float dtype and
            device. Modified in place. May hold names that have no mask; those are not touched.
        masks: By parameter name, same shape and device as the parameter: bool (True stays), or
            zeros and ones in the parameter's own dtype, which is several times faster on a CPU.

    Raises:
        UnknownNameError: A mask for a name that is not among ``parameters``.
        ShapeError: A mask of another shape than its parameter.

    Example:
        >>> w = torch.tensor([1.0, 2.0, 3.0])
        >>> hold_({"w": w}, {"w": torch.tensor([True, False, True])})
        >>> w
        tensor([1., 0., 3.])
    """
    if not masks:
        return
    held = []
    for name, mask in masks.items():
        if name not in parameters:
            raise UnknownNameError(
                f"a mask for {name!r}, which is no parameter here: {nearest(name, parameters)}"
            )
        if parameters[name].shape != mask.shape:
            raise ShapeError(
                f"{name}: a mask of shape {tuple(mask.shape)} for a parameter of shape "
                f"{tuple(parameters[name].shape)}; the two must be equal"
            )
        held.append(local(parameters[name]))
    torch._foreach_mul_(held, [local(mask) for mask in masks.values()])
    torch._foreach_add_(held, 0.0)  # -3 * 0 is -0.0; adding zero makes it +0.0, the same bytes


@contextmanager
def as_if_cut(parameters: Weights, masks: Masks) -> Iterator[None]:
    """The parameters zero outside their masks; on exit what they were, bit for bit.

    >>> w = torch.tensor([1.0, 2.0])
    >>> with as_if_cut({"w": w}, {"w": torch.tensor([True, False])}):
    ...     print(w)
    tensor([1., 0.])
    >>> w
    tensor([1., 2.])
    """
    saved = {name: parameters[name].detach().clone() for name in masks}
    try:
        hold_(parameters, masks)
        yield
    finally:
        with torch.no_grad():
            for name, value in saved.items():
                parameters[name].copy_(value)


class AfterStep(ABC):
    """Something that acts after every step of an optimiser, until it is removed or its block ends."""

    @abstractmethod
    def _after_step(self, *_: Any) -> None:
        """What it does."""

    def _follow(self, optimizer: Optimizer) -> None:
        self._handle = optimizer.register_step_post_hook(self._after_step)

    def remove(self) -> None:
        """Stop holding. Safe to call twice."""
        self._handle.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()


class MaskHolder(AfterStep):
    """Hold zeros through any torch optimiser, without touching the training loop.

    Applies the masks once at construction and then after every ``optimizer.step()``, by a
    post-step hook. Use it as a context manager, or call :meth:`remove` when done; the zeros stay
    where they are, but are free to move from then on.

    Args:
        parameters: Name and parameter, as ``model.named_parameters()``.
        masks: By parameter name, bool, True stays; same shape as the parameter. Copied in the
            parameter's own dtype: costs one tensor of that size each.
        optimizer: Whatever moves the parameters; any subclass of ``torch.optim.Optimizer``.

    Raises:
        UnknownNameError: A mask for a name that is not among ``parameters``.
        ShapeError: A mask of another shape than its parameter.

    Example:
        >>> w = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> optimizer = torch.optim.SGD([w], lr=0.1, momentum=0.9, weight_decay=0.1)
        >>> with MaskHolder([("w", w)], {"w": torch.tensor([True, False])}, optimizer):
        ...     w.grad = torch.ones(2)
        ...     optimizer.step()
        >>> w.tolist()[1]
        0.0
    """

    def __init__(
        self,
        parameters: Iterable[tuple[str, Tensor]],
        masks: Mapping[str, Tensor],
        optimizer: Optimizer,
    ) -> None:
        named = dict(parameters)
        self._parameters = {name: named[name] for name in masks if name in named}
        self._masks = {
            name: mask.to(dtype=named[name].dtype, device=named[name].device)
            if name in named
            else mask
            for name, mask in masks.items()
        }
        hold_(named, self._masks)
        self._follow(optimizer)

    def _after_step(self, *_: Any) -> None:
        hold_(self._parameters, self._masks)
