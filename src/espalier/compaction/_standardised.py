r"""Convolutions that standardise their weights, and go on counting the inputs that are gone.

Mean and variance of a filter run over all n of its entries. When k are left, n - k others stand for those that went,
with their sum and their sum of squares: half of them :math:`a + b`, half :math:`a - b` (an odd one is a), where a is
the mean of what went and b its spread. The convolution's own ``forward`` standardises all n, and convolves with
those that are left.
"""

from collections.abc import Callable
from functools import cache
from math import prod, sqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from espalier.compaction._edits import NormEdit
from espalier.errors import RequestError

_Conv = nn.modules.conv._ConvNd


class CountingConv(_Conv):
    """What is put before a convolution's own class so that its statistics count inputs that are gone.

    Attributes:
        counted: The input channels it counts.
        gone: Of every filter: mean and spread of the weights that went, and what rounding leaves of both,
            shape (2, filters, 2): their sum is exact where the model is made one of float64.
    """

    counted: int
    gone: Tensor

    def whole(self) -> Tensor:
        """The weight with what stands for the channels that are gone behind it."""
        held = self._parameters["weight"]
        assert held is not None
        shape = (held.shape[0], self.counted - held.shape[1], *held.shape[2:])
        number = prod(shape[1:])
        sign = torch.ones(number, device=held.device, dtype=held.dtype)
        sign[1::2] = -1
        if number % 2:
            sign[0] = 0
            sign *= sqrt(number / max(1, number - 1))
        mean, spread = torch.split(self.gone.sum(0), 1, 1)
        return torch.cat([held, (mean + spread * sign).reshape(shape)], 1)

    def forward(self, input: Tensor, *more: Any, **named: Any) -> Tensor:
        """The whole weight standardised, and the convolution without what is gone."""
        with _Narrow(input.shape[-1 - len(self.kernel_size)]):
            out: Tensor = super().forward(input, *more, **named)
        return out

    def extra_repr(self) -> str:
        """As of the convolution, with what it counts."""
        return f"{super().extra_repr()}, counted={self.counted}"  # type: ignore[no-untyped-call]

    def __reduce__(self) -> tuple[Any, ...]:
        """The class is made while the program runs, so it is copied and pickled by how it is made."""
        return _empty, (type(self).__bases__[1],), self.__dict__


class _Narrow(TorchFunctionMode):
    """Convolutions take so many input channels of their weight."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.inputs = inputs

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """As without it, but for convolutions."""
        if func in (F.conv1d, F.conv2d, F.conv3d):
            x, weight, *more = args
            args = (x, weight.narrow(1, 0, self.inputs), *more)
        return func(*args, **(kwargs or {}))


@cache
def _counting(kind: Any) -> Any:
    """A subclass of a convolution in which its weight appears at its old size."""
    body = {"weight": property(CountingConv.whole), "__doc__": CountingConv.__doc__}
    return type(f"Counting{kind.__name__}", (CountingConv, kind), body)


def _empty(kind: Any) -> Any:
    made = _counting(kind)
    return made.__new__(made)


@torch.no_grad()
def count_inputs_(module: _Conv, edit: NormEdit, lost: Tensor) -> None:
    """Make a convolution, whose weight has been cut, count as many inputs as before, in place.

    Args:
        module: The convolution.
        edit: What it counts.
        lost: The weights that went, of the filters that stayed: shape (filters, entries).

    Raises:
        RequestError: It is not one the edit fits.
    """
    if module.groups > 1 or module.transposed or module.weight.shape[1] > edit.size:
        raise RequestError(f"{edit.module}: no convolution of {edit.size} inputs in one group")
    if lost.shape[1] == 1:
        raise RequestError(f"{edit.module}: one weight alone has no spread")
    lost = lost.cpu().double()
    mean = lost.mean(1, keepdim=True)
    exact = torch.cat([mean, (lost - mean).square().mean(1, keepdim=True).sqrt()], 1)
    rounded = exact.to(module.weight.dtype)
    gone = torch.stack([rounded, (exact - rounded.double()).to(rounded.dtype)])
    module.register_buffer("gone", gone.to(module.weight.device))
    vars(module)["counted"] = edit.size
    kind: Any = type(module)
    module.__class__ = _counting(kind)  # hooks and mode stay where they are
