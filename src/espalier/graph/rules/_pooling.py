"""Pooling, interpolation, padding, pixel shuffle and reductions."""

import re
from dataclasses import replace

import numpy as np

from espalier.graph._align import Reduced
from espalier.graph._context import Arguments, Context
from espalier.graph._value import Factor, Value, axis_factor
from espalier.graph.rules._elementwise import forget, tensors
from espalier.graph.rules._normalisation import OVER

POSITIONS = "positions are mixed"


def _zeros_only(value: Value) -> Value:
    factors = tuple(replace(f, const=np.where(f.const == 0, 0.0, np.nan)) for f in value.factors)
    return replace(value, factors=factors)


def spatial(ctx: Context, a: Arguments) -> Value | tuple[Value, ...]:
    """Pooling, upsampling and padding of positions: batch and channel pass."""
    value = ctx.canonical(tensors(a)[0])
    found = re.search(r"(\d)d", ctx.op)
    positions = int(found.group(1)) if found else value.rank - 2
    at = range(value.rank - positions, value.rank)
    value = ctx.fix(value, [d for d in at if not _passes(a, d - value.rank)], POSITIONS)
    padding = a.get("padding") or [0]
    # At the border zeros are averaged in, so of all constants only zero stays one.
    if "avg_pool" in ctx.op and isinstance(padding, list) and any(padding):
        value = _zeros_only(value)
    many = tuple(replace(value, shape=shape, data=None) for shape in ctx.shapes)
    return many if isinstance(ctx.node.meta["val"], (tuple, list)) else many[0]


def _passes(a: Arguments, dim: int) -> bool:
    """Is the window along an axis one index, and every one of them taken?"""
    given = [a.get(n) for n in ("kernel_size", "stride", "padding")]
    if not isinstance(given[0], list):
        return False
    ends = [g[dim] if isinstance(g, list) and len(g) >= -dim else None for g in given]
    return ends[0] == 1 and ends[1] == 1 and ends[2] in (0, None)


def pad(ctx: Context, a: Arguments) -> Value:
    """Channels padded with a constant: new channels that are that constant, before and after.

    A channel axis that is cropped, or padded with copies of itself, is fixed.
    """
    value = ctx.canonical(a["self"])
    given = list(a["pad"])
    amounts = {value.rank - 1 - i: tuple(given[2 * i : 2 * i + 2]) for i in range(len(given) // 2)}
    ends = {d: ends for d, ends in amounts.items() if any(ends)}
    fill = float(a.get("value") or 0.0)
    constant = a.get("mode", "constant") == "constant"
    odd = [d for d, both in ends.items() if not constant or min(both) < 0]
    value = ctx.fix(value, odd, "cropped by a literal amount, or padded with copies")
    channels = [d for d in ends if value.factor(d) is not None]
    if constant and len(channels) < len(ends):
        # Positions are filled too: a channel that was constant has two values now, unless both are
        # 0.
        value = forget(value) if fill else _zeros_only(value)
    for dim in channels:
        value = _lengthened(ctx, value, dim, ends[dim], fill)
    return replace(value, shape=ctx.shape, data=None)


def _lengthened(ctx: Context, value: Value, dim: int, ends: tuple[int, ...], fill: float) -> Value:
    """New channels at both ends of an axis, equal to ``fill`` at every position."""
    value = ctx.isolate(value, dim, "padded in a joint axis")
    factor = value.factor(dim)
    if factor is None:
        return value
    before, after = (axis_factor(0, ctx.labels.fresh(n), np.full(n, fill)) for n in ends)
    ctx.site(*(Value(shape=f.labels.shape, factors=(f,)) for f in (before, after)))
    parts = (before, factor, after)
    joined = axis_factor(
        dim, np.concatenate([f.labels for f in parts]), np.concatenate([f.const for f in parts])
    )
    shape = tuple(sum(ends) + s if d == dim else s for d, s in enumerate(value.shape))
    return replace(value, shape=shape, factors=(*_without(value, factor).factors, joined))


def pixel_shuffle(ctx: Context, a: Arguments) -> Value:
    """Groups of r² channels become one channel of r times the positions."""
    r: int = a["upscale_factor"]
    value = _channel_only(ctx, a["self"])
    factor = value.factor(value.rank - 3)
    if factor is None:
        return replace(value, shape=ctx.shape, data=None)
    merged = ctx.labels.unify_along(factor.labels.reshape(-1, r * r), 1)
    const = factor.const.reshape(-1, r * r)
    same = np.where((const == const[:, :1]).all(1), const[:, 0], np.nan)
    return Value(shape=ctx.shape, factors=(axis_factor(value.rank - 3, merged, same),))


def pixel_unshuffle(ctx: Context, a: Arguments) -> Value:
    """One channel becomes r² channels of fewer positions."""
    r: int = a["downscale_factor"]
    value = _channel_only(ctx, a["self"])
    factor = value.factor(value.rank - 3)
    if factor is None:
        return replace(value, shape=ctx.shape, data=None)
    labels = np.repeat(factor.labels, r * r)
    own = axis_factor(value.rank - 3, labels, np.repeat(factor.const, r * r))
    return Value(shape=ctx.shape, factors=(own,))


def channel_shuffle(ctx: Context, a: Arguments) -> Value:
    """Channels seen as (groups, n), transposed; every group loses the same positions."""
    value = _channel_only(ctx, a["self"])
    factor = value.factor(1)
    if factor is None:
        return replace(value, data=None)
    groups: int = a["groups"]
    ctx.labels.unify_along(factor.labels.reshape(groups, -1), 0)
    ctx.site(value)
    labels = factor.labels.reshape(groups, -1).T.reshape(-1)
    const = factor.const.reshape(groups, -1).T.reshape(-1)
    return Value(shape=ctx.shape, factors=(axis_factor(1, labels, const),))


def _channel_only(ctx: Context, value: Value) -> Value:
    channel = 1 if ctx.op.startswith("aten.channel") else value.rank - 3
    return ctx.fix(value, [d for d in range(value.rank) if d != channel], POSITIONS)


def _reduced_dims(value: Value, a: Arguments) -> list[int]:
    given = a.get("dim")
    if given is None or given == []:
        return list(range(value.rank))
    listed = [given] if isinstance(given, int) else given
    return [d % max(value.rank, 1) for d in listed]


def _reduce(ctx: Context, a: Arguments, sums: bool) -> Value | tuple[Value, ...]:
    value = ctx.canonical(a["self"])
    dims = _reduced_dims(value, a)
    for dim in dims:
        factor = value.factor(dim)
        if factor is None:
            continue
        if sums and len(factor.dims) == 1:
            ctx.read_whole(Reduced(labels=factor.labels, const=factor.const))
            value = _without(value, factor)
        elif len(factor.dims) == 1 and ctx.count(factor, own=value.static):
            value = _without(value, factor)
        else:
            value = ctx.fix(value, [dim], OVER)
    keep = a.get("keepdim", False)
    left = [d for d in range(value.rank) if keep or d not in dims]
    out = value.renamed(ctx.shape, {d: i for i, d in enumerate(left)})
    many = tuple(replace(out, shape=shape, static=False, data=None) for shape in ctx.shapes)
    return many if isinstance(ctx.node.meta["val"], (tuple, list)) else many[0]


def _without(value: Value, factor: Factor) -> Value:
    return replace(value, factors=tuple(f for f in value.factors if f is not factor))


def total(ctx: Context, a: Arguments) -> Value | tuple[Value, ...]:
    """A sum: over the channel it is exact when those removed are zero."""
    return _reduce(ctx, a, sums=True)


def statistic(ctx: Context, a: Arguments) -> Value | tuple[Value, ...]:
    """Mean, variance, maximum …: over the channel they count what is removed."""
    return _reduce(ctx, a, sums=False)


def norm(ctx: Context, a: Arguments) -> Value | tuple[Value, ...]:
    """A vector norm: of order 1 or 2 it is a sum."""
    return _reduce(ctx, a, sums=a.get("ord", 2) in (1, 2))
