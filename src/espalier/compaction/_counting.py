r"""Norms that go on counting the channels that are gone.

LayerNorm, RMSNorm, global response norm, GroupNorm in one group: their statistics run over n channels, zeros
among them. When k are left the statistic still has to be that over n. Two ways, both exact:

- **RMSNorm** stays the module it is, with other numbers. With S the sum of squares, the same with or without zeros,

  .. math:: \gamma \frac{x}{\sqrt{S/n + ε}} = \sqrt{n/k}\, γ\, \frac{x}{\sqrt{S/k + ε\, n/k}} .

- **Every other norm** is given n - k zeros behind what is left, and what it makes of them is dropped. It treats all
  channels alike (:func:`espalier.graph._norms.norm_axes`), so where the zeros stand does not matter.
"""

import copy
from collections.abc import Sequence
from math import sqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espalier.compaction._edits import NormEdit
from espalier.errors import RequestError, UnknownNameError
from espalier.graph._groups import ChannelGraph
from espalier.graph._labels import Ids

_SMALL = 1e-2
"""No ε is larger."""


class Counting(nn.Module):
    """What is put before a norm's own class so that it counts channels that are gone.

    The module's parameters and buffers are as long as what is left. Its own ``forward`` reads them, by
    name, with zeros behind them, so it never learns that anything went.

    Attributes:
        counted: The channels it counts.
        axis: Where they lie in the input, from the front.
    """

    counted: int
    axis: int

    def forward(self, input: Tensor, *more: Any, **named: Any) -> Tensor:
        """Zeros behind the input, the norm, and without what became of them."""
        left = input.shape[self.axis]
        wide: Tensor = super().forward(_padded(input, self.axis, self.counted), *more, **named)
        return wide.narrow(self.axis, 0, left)

    def extra_repr(self) -> str:
        """As of the norm, with what it counts."""
        return f"{super().extra_repr()}, counted={self.counted}".removeprefix(", ")

    def __reduce__(self) -> tuple[Any, ...]:
        """The class is made while the program runs, so it is copied and pickled by how it is made."""
        kind = type(self)
        names = tuple(n for n, v in vars(kind).items() if isinstance(v, property))
        return _empty, (kind.__bases__[1], names), self.__dict__


def _padded(x: Tensor, axis: int, size: int) -> Tensor:
    return F.pad(x, (0, 0) * (x.dim() - 1 - axis) + (0, size - x.shape[axis]))


_KINDS: dict[tuple[type[nn.Module], tuple[str, ...]], type[nn.Module]] = {}


def _counting(kind: type[nn.Module], names: tuple[str, ...]) -> type[nn.Module]:
    """A subclass of a norm in which its vectors appear at their old length."""
    if (kind, names) in _KINDS:
        return _KINDS[kind, names]

    def wide(name: str) -> property:
        def read(self: nn.Module) -> Tensor:
            held = self._parameters.get(name)
            vector = self._buffers[name] if held is None else held
            assert vector is not None
            axis = max(range(vector.dim()), key=lambda d: vector.shape[d])
            return _padded(vector, axis, vars(self)["counted"])

        return property(read)

    body = {name: wide(name) for name in names}
    made = type(f"Counting{kind.__name__}", (Counting, kind), {**body, "__doc__": Counting.__doc__})
    return _KINDS.setdefault((kind, names), made)


def _empty(kind: type[nn.Module], names: tuple[str, ...]) -> nn.Module:
    made = _counting(kind, names)
    return made.__new__(made)


def norm_edits(model: nn.Module, graph: ChannelGraph, gone: Ids) -> tuple[NormEdit, ...]:
    """The edits that let every norm count on when the classes ``gone`` go.

    Args:
        model: The dense module.
        graph: Its channel graph.
        gone: Classes that go.
    """
    lost = set(gone.tolist())
    return tuple(
        NormEdit(
            module=norm.module,
            axis=norm.axis,
            size=norm.size,
            eps=_eps(model, norm.module, norm.axis),
        )
        for norm in graph.norms
        if lost.intersection(norm.classes.tolist())
    )


@torch.no_grad()
def _eps(model: nn.Module, path: str, axis: int) -> str:
    """The attribute that holds ε where a module is an RMSNorm with a γ of its own; else empty."""
    module = model.get_submodule(path)
    weight = module._parameters.get("weight")
    held = [*module.parameters(), *module.buffers()]
    if weight is None or len(held) > 1 or weight.dim() != 1:
        return ""
    uses = sum(p is weight for m in model.modules() for p in m._parameters.values())
    # γ times √(n/k) has to be as exact as γ: numbers of 16 bits are left alone.
    if uses > 1 or weight.dtype not in (torch.float32, torch.float64):
        return ""
    names = [n for n, v in vars(module).items() if type(v) is float and 0 < v <= _SMALL]
    for name in names:
        if _is_rms(copy.deepcopy(module).eval(), axis, name):
            return name
    return ""


def _is_rms(trial: nn.Module, axis: int, name: str) -> bool:
    weight, generator = trial.get_parameter("weight"), torch.Generator().manual_seed(0)
    weight.copy_(torch.rand(weight.shape, generator=generator) + 0.5)
    eps: float = getattr(trial, name)
    # So small that ε counts: what is taken for ε must be it.
    x = sqrt(eps) * torch.randn(2, *[3] * (axis - 1), len(weight), generator=generator)
    x = x.to(weight.device, weight.dtype)
    try:
        out = trial(x)
    except Exception:  # whatever the module's own code raises: then it is not known to be one
        return False
    expected = weight * x * (x.square().mean(-1, keepdim=True) + eps).rsqrt()
    return out.shape == x.shape and torch.allclose(out, expected, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def count_on_(model: nn.Module, edit: NormEdit) -> None:
    """Make one norm, whose vectors have been cut, count as many channels as before, in place.

    Raises:
        UnknownNameError: No such module.
        RequestError: The module is not one the edit fits.
    """
    try:
        module = model.get_submodule(edit.module)
    except AttributeError as error:
        raise UnknownNameError(f"{edit.module}: no such module") from error
    held = {**module._parameters, **module._buffers}
    names = tuple(name for name, tensor in held.items() if tensor is not None)
    if module._modules or any(max(_shape(held[name]), default=1) > edit.size for name in names):
        raise RequestError(f"{edit.module}: no norm over {edit.size} channels")
    if not edit.eps:
        module.__class__ = _counting(type(module), names)  # hooks and mode stay where they are
        vars(module).update(counted=edit.size, axis=edit.axis)
        return
    weight, eps = module._parameters.get("weight"), vars(module).get(edit.eps)
    if weight is None or type(eps) is not float:
        raise RequestError(f"{edit.module}: no γ and ε = {edit.eps!r} to rescale")
    more = edit.size / len(weight)
    weight.mul_(sqrt(more))
    vars(module)[edit.eps] = eps * more
    if hasattr(module, "normalized_shape"):
        module.normalized_shape = tuple(weight.shape)  # type: ignore[assignment]


def unscaled(gamma: Tensor, edit: NormEdit) -> Tensor:
    """The γ before it was rescaled, still short."""
    return gamma / sqrt(edit.size / len(gamma))


def _shape(tensor: Tensor | None) -> Sequence[int]:
    return () if tensor is None else tensor.shape
