"""One batch at other sizes than its own: of the batch, and of the axes that are no channels."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments."""


def resized(call: Call, axes: slice, old: int, new: int) -> Call:
    """Every tensor's axes of size ``old`` among ``axes`` at size ``new``, by repeating its entries.

    >>> x = torch.arange(6).reshape(2, 3)
    >>> resized(((x,), {}), slice(1, None), 3, 4)[0][0].tolist()
    [[0, 1, 2, 0], [3, 4, 5, 3]]
    """

    def change(tensor: Tensor) -> Tensor:
        for axis in range(tensor.dim())[axes]:
            if tensor.shape[axis] == old:
                # Repeated, not drawn: a mask stays a mask, and an index within its table.
                index = torch.arange(new, device=tensor.device) % old
                tensor = tensor.index_select(axis, index)
        return tensor

    args, kwargs = pytree.tree_map_only(Tensor, change, call)
    return tuple(args), dict(kwargs)


def other_sizes(call: Call) -> Iterator[list[Call]]:
    """Batches of other sizes, in families: of each, some may be ones that the model does not take.

    First those with another number of samples; then, for every size of a later axis, from the last one
    on, those where all axes of that size have another: one more and half as many again, both chosen to
    be odd where the size is even, so that rounding by strides and padding shows; 32 more and
    twice as many for models that take multiples only.
    """
    tensors = [t for t in pytree.tree_leaves(call) if isinstance(t, Tensor) and t.dim()]
    if not tensors:
        return
    batch = tensors[0].shape[0]
    if batch:
        yield [resized(call, slice(1), batch, n) for n in (batch + 1, 1) if n != batch]
    depth = max(t.dim() for t in tensors)
    sizes = [t.shape[-i] for i in range(1, depth) for t in tensors if t.dim() > i]
    for size in dict.fromkeys(s for s in sizes if s > 1):
        steps = (size + 1, size + size // 2 + 1, size + 32, 2 * size)
        yield [resized(call, slice(1, None), size, n) for n in dict.fromkeys(steps)]
