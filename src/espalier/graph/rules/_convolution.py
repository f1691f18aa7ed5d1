"""Convolutions and linear maps: parameter axes tied to channels."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from espalier.graph._context import Arguments, Context, Read
from espalier.graph._labels import SILENT, Ids
from espalier.graph._value import Factor, Value, axis_factor, fix, unknown

FIXED = "its input is no channel axis"


def tie(ctx: Context, x: Ids | None, w: Ids | None) -> None:
    """The channels read and the axis of the weight that reads them."""
    if w is not None:
        ctx.labels.consumed(w)
        ctx.noted.append(w)
    # Either both are channels and become one, or the one that is has nothing to shrink with.
    if x is not None and w is not None:
        ctx.labels.unify(x, w)
    elif x is not None:
        ctx.labels.freeze(x, ctx.reason("read by a weight of fixed size"))
    elif w is not None:
        ctx.labels.freeze(w, ctx.reason(FIXED))


def _bias(ctx: Context, bias: Value | None, out: Ids | None) -> None:
    own = None if bias is None else bias.labels(0)
    if own is None:
        return
    ctx.labels.produced(own)
    if out is None:
        ctx.labels.freeze(own, ctx.reason("added to an axis that is no channel"))
    else:
        ctx.labels.unify(out, own)


def _output(
    ctx: Context, x: Factor | None, nonzero: NDArray[np.bool_] | None, out: Ids, padded: bool
) -> Factor:
    """The channels written; known where all that they depend on is known."""
    const = unknown(out)
    if nonzero is not None:
        if x is None:
            loose = nonzero
        else:
            steady = (x.const == 0) if padded else ~np.isnan(x.const)
            loose = nonzero & ~steady
        # Known where no weight reads an input that moves. The 1 is a mark: the run gives the
        # value.
        const = np.where(loose.any(axis=1), np.nan, 1.0)
    return axis_factor(0, out, const)


def affine(
    ctx: Context,
    x: Factor | None,
    out: Ids | None,
    matrix: Callable[[], Tensor] | None,
    nonzero: NDArray[np.bool_] | None,
    padded: bool,
) -> Factor | None:
    """Note the read, and return the factor of the channels written (on axis 0)."""
    if ctx.follow and x is not None and nonzero is not None:
        ctx.reads.append(
            Read(
                node=ctx.node.name,
                inputs=x.labels,
                const=x.const,
                outputs=out,
                nonzero=nonzero,
                # At a border the weight meets padded zeros, not the constant: nothing to fold by.
                weight=None if padded else matrix,
                bias=_shift(ctx),
            )
        )
    return None if out is None else _output(ctx, x, nonzero, out, padded)


def _shift(ctx: Context) -> tuple[str, int] | None:
    """Where a constant can be added behind this operation: its bias, or the mean that follows."""
    bias = ctx.node.args[2] if len(ctx.node.args) > 2 else None
    if isinstance(bias, torch.fx.Node):
        # A tensor that others use too cannot take what belongs to this operation alone.
        return _alone(ctx, bias, 1)
    users = list(ctx.node.users)
    if len(users) == 1 and "_native_batch_norm_legit_no_training" in str(users[0].target):
        mean = users[0].args[3]
        return _alone(ctx, mean, -1) if isinstance(mean, torch.fx.Node) else None
    return None


def _alone(ctx: Context, held: torch.fx.Node, sign: int) -> tuple[str, int] | None:
    name = ctx.names.get(held.name)
    return None if name is None or len(held.users) != 1 else (name, sign)


def linear(ctx: Context, a: Arguments) -> Value:
    """``x Wᵀ + b``: axis 1 of W reads the last axis of x, axis 0 writes it."""
    return _linear(ctx, a["input"], a["weight"], a.get("bias"))


def _linear(ctx: Context, x: Value, w: Value, bias: Value | None) -> Value:
    x = ctx.isolate(x, x.rank - 1, "joint with the axis that a weight reads")
    read = x.factor(x.rank - 1)
    tie(ctx, None if read is None else read.labels, w.labels(1))
    out = w.labels(0)
    if out is not None:
        ctx.labels.produced(out)
    _bias(ctx, bias, out)
    data = w.data
    nonzero = None if data is None else (data != 0).cpu().numpy()
    matrix = None if data is None else (lambda: data)
    written = affine(ctx, read, out, matrix, nonzero, padded=False)
    factors = tuple(f for f in x.factors if f is not read)
    if written is not None:
        factors += (replace(written, dims=(x.rank - 1,)),)
    return Value(shape=ctx.shape, factors=factors)


def matrix_product(ctx: Context, x: Value, w: Value) -> Value:
    """``x @ w`` with a matrix of parameters on the right."""
    data = None if w.data is None else w.data.t()
    flipped = replace(w.renamed(w.shape[::-1], {0: 1, 1: 0}), data=data)
    return _linear(ctx, x, flipped, None)


def convolution(ctx: Context, a: Arguments) -> Value:
    """``conv1d`` … ``conv_transpose3d`` and ``convolution``."""
    x: Value = a["input"]
    w: Value = a["weight"]
    transposed = a.get("transposed", "transpose" in ctx.op)
    groups: int = a["groups"]
    padded = a["padding"] == "same" or (a["padding"] != "valid" and any(a["padding"]))
    channel = x.rank - w.rank + 1
    # Kernel positions are no channels, so nobody has to be told why they stay.
    w = fix(ctx.labels, w, range(2, w.rank), SILENT)
    x = ctx.fix(x, [d for d in range(x.rank) if d != channel], "position or batch")
    read = x.factor(channel)
    # A transposed convolution drops what falls outside: never exact for a constant that is not 0.
    args = (ctx, read, w, a.get("bias"), groups, padded or transposed)
    if groups == 1:
        written = _plain(*args, transposed=transposed)
    elif transposed or _whole(w, groups, x.shape[channel]):
        written = _by_group(*args, transposed=transposed, inputs=x.shape[channel])
    else:
        written = _within_groups(*args)
    factors = () if written is None else (replace(written, dims=(channel,)),)
    # The number of groups may be a literal, or an attribute of a module that is no convolution.
    if groups > 1:
        ctx.site(x)
    return Value(shape=ctx.shape, factors=factors)


def _whole(w: Value, groups: int, inputs: int) -> bool:
    """Remove whole groups where that gives the finer choice."""
    # Whole groups are ``groups`` choices; thinning all groups alike is as many as a group is wide.
    return groups >= max(inputs // groups, w.shape[0] // groups)


def _nonzero(w: Value, swap: bool) -> NDArray[np.bool_] | None:
    if w.data is None:
        return None
    found = (w.data != 0).flatten(2).any(2) if w.rank > 2 else w.data != 0
    array: NDArray[np.bool_] = found.cpu().numpy()
    return array.T if swap else array


def _plain(ctx: Context, read: Factor | None, w: Value, bias: Value | None, groups: int,
           padded: bool, transposed: bool) -> Factor | None:  # fmt: skip
    reads, writes = (0, 1) if transposed else (1, 0)
    tie(ctx, None if read is None else read.labels, w.labels(reads))
    out = w.labels(writes)
    if out is not None:
        ctx.labels.produced(out)
    _bias(ctx, bias, out)
    data = w.data
    matrix = None if data is None else (lambda: data.flatten(2).sum(2))
    return affine(ctx, read, out, matrix, _nonzero(w, transposed), padded)


def _by_group(ctx: Context, read: Factor | None, w: Value, bias: Value | None, groups: int,
              padded: bool, transposed: bool, inputs: int) -> Factor | None:  # fmt: skip
    """Whole groups live and die: their inputs, their filters and their outputs are one class."""
    w = fix(ctx.labels, w, [1], SILENT)
    own = w.labels(0)
    # A transposed weight is (I, O / groups, …): its first axis reads, and no axis has all outputs.
    outputs = w.shape[1] * groups if transposed else w.shape[0]
    if own is None:
        return None
    ctx.labels.produced(own)
    by_group = own.reshape(groups, -1)
    ctx.labels.unify_along(by_group, 1)
    if read is None:
        ctx.labels.freeze(own, ctx.reason(FIXED))
    else:
        ctx.labels.unify(by_group[:, :1], read.labels.reshape(groups, -1))
    out = np.repeat(by_group[:, 0], outputs // groups) if transposed else own
    _bias(ctx, bias, out)
    const = unknown(out)
    if w.data is not None:
        full: Any = w.data.detach().reshape(groups, -1, *w.shape[1:])
        dead = ((full == 0).flatten(1).all(1)).cpu().numpy()
        each = np.repeat(dead, outputs // groups)
        if read is not None:
            steady = (read.const == 0) if padded else ~np.isnan(read.const)
            each |= np.repeat(steady.reshape(groups, -1).all(1), outputs // groups)
        if not transposed:
            each |= ~(w.data != 0).flatten(1).any(1).cpu().numpy()
        const = np.where(each, 1.0, np.nan)
    return axis_factor(0, out, const)


def _within_groups(ctx: Context, read: Factor | None, w: Value, bias: Value | None, groups: int,
                   padded: bool) -> Factor | None:  # fmt: skip
    """Every group loses the same positions, of its inputs and, independently, of its outputs."""
    own, out = w.labels(1), w.labels(0)
    if read is not None:
        ctx.labels.unify_along(read.labels.reshape(groups, -1), 0)
    tie(ctx, None if read is None else read.labels.reshape(groups, -1)[0], own)
    if out is not None:
        ctx.labels.produced(out)
        ctx.labels.unify_along(out.reshape(groups, -1), 0)
    _bias(ctx, bias, out)
    nonzero = _nonzero(w, False)
    if nonzero is not None:
        each = nonzero.reshape(groups, -1, nonzero.shape[1])
        # A read is noted for all inputs against all outputs; a group reads its own block alone.
        spread = np.zeros((groups, each.shape[1], groups, each.shape[2]), dtype=np.bool_)
        for g in range(groups):
            spread[g, :, g] = each[g]
        nonzero = spread.reshape(groups * each.shape[1], groups * each.shape[2])
    return affine(ctx, read, out, None, nonzero, padded)
