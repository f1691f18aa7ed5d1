r"""One training step over several ranks: every rank computes a part of the batch, and all take the same step.

Legend: a batch of N samples is cut into parts of :math:`n_r`; :math:`L_r` is the mean loss of part r.

.. math:: L = \sum_r \frac{n_r}{N} L_r, \qquad \nabla L = \sum_r \frac{n_r}{N} \nabla L_r

which is the loss of the batch on one rank, with parts of any sizes. BatchNorm would see the parts: it is given the
moments of the whole batch (Ioffe & Szegedy 2015, arXiv 1502.03167, Algorithm 1), as ``SyncBatchNorm`` does on GPUs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves, tree_map_only

from espalier._ground.world import World
from espalier.errors import RequestError


def part_of(batch: Any, world: World) -> tuple[Any, float]:
    """This rank's samples of a batch, and their fraction of all.

    Args:
        batch: Tensors at any depth of tuples, lists and dicts; those with samples have them along the first axis.
        world: Between which ranks it is cut.

    Raises:
        RequestError: No samples along one first axis, or fewer than ranks.

    Example:
        >>> from espalier._ground.world import ALONE
        >>> part_of((torch.ones(4, 2), None), ALONE)[1]
        1.0
    """
    if world.size == 1:
        return batch, 1.0
    tensors = [leaf for leaf in tree_leaves(batch) if isinstance(leaf, Tensor) and leaf.dim()]
    sizes = sorted({len(tensor) for tensor in tensors})
    if len(sizes) != 1 or sizes[0] < world.size:
        raise RequestError(
            f"a batch whose tensors have first axes of {sizes} cannot be cut between {world.size} ranks; give batches "
            "of tensors with one sample per index, at least as many as ranks, or train on one rank"
        )
    start, end = (sizes[0] * r // world.size for r in (world.rank, world.rank + 1))
    mine = tree_map_only(Tensor, lambda one: one[start:end] if one.dim() else one, batch)
    return mine, (end - start) / sizes[0]


@torch.no_grad()
def add_up_(optimizer: Optimizer, loss: Tensor, world: World) -> Tensor:
    """Replace the gradients of everything the optimiser moves by their sums over the ranks.

    Returns:
        The sum of the losses.
    """
    if world.size == 1:
        return loss
    gradients = [p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
    for dtype in dict.fromkeys(g.dtype for g in gradients):
        same = [g for g in gradients if g.dtype is dtype]
        total = world.sum(torch.cat([g.flatten() for g in same]))
        for g, part in zip(same, torch.split(total, [g.numel() for g in same]), strict=True):
            g.copy_(part.view_as(g))
    return world.sum(loss)


@contextmanager
def as_one_batch(model: nn.Module, world: World) -> Iterator[None]:
    """Inside, BatchNorm in train mode normalises by the moments of the whole batch."""
    layers = [m for m in model.modules() if isinstance(m, _BatchNorm)] if world.size > 1 else []
    for layer in layers:
        layer.forward = partial(_normalised, layer, world)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class's again


def _normalised(layer: _BatchNorm, world: World, x: Tensor) -> Tensor:
    if not layer.training:
        return type(layer).forward(layer, x)
    axes = [axis for axis in range(x.dim()) if axis != 1]
    shape = [-1 if axis == 1 else 1 for axis in range(x.dim())]
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    n = _sum(wide.new_tensor(x.numel() / x.shape[1]), world)
    mean = _sum(wide.sum(axes), world) / n
    # Centred before it is squared, as on one rank: E[x²] − E[x]² would lose what matters.
    centred = wide - mean.view(shape)
    variance = _sum(centred.square().sum(axes), world) / n
    if layer.track_running_stats and layer.running_mean is not None:
        _remember_(layer, mean.detach(), (variance * n / (n - 1)).detach())
    out = centred * (variance + layer.eps).rsqrt().view(shape)
    if layer.weight is not None:
        out = out * layer.weight.view(shape) + layer.bias.view(shape)
    return out.to(x.dtype)


@torch.no_grad()
def _remember_(layer: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    assert layer.num_batches_tracked is not None
    layer.num_batches_tracked.add_(1)
    share = layer.momentum or 1.0 / float(layer.num_batches_tracked)
    layer.running_mean.lerp_(mean.to(layer.running_mean.dtype), share)
    layer.running_var.lerp_(variance.to(layer.running_var.dtype), share)


class _Sum(torch.autograd.Function):
    """Σ over the ranks; a gradient comes from every rank, so theirs are summed too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, world: World) -> Tensor:
        ctx.world = world
        return world.sum(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.world.sum(gradients[0]), None


def _sum(x: Tensor, world: World) -> Tensor:
    total: Tensor = _Sum.apply(x, world)  # type: ignore[no-untyped-call]
    return total
