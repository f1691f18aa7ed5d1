"""Operations that move, merge and select axes."""

from dataclasses import replace
from typing import Any

import numpy as np

from espalier.graph._context import Arguments, Context
from espalier.graph._reshape import reshape
from espalier.graph._value import Factor, Value, axis_factor, unknown


def _dim(dim: int, rank: int) -> int:
    return dim % max(rank, 1)


def view(ctx: Context, a: Arguments) -> Value:
    """``view``, ``reshape``, ``flatten``, ``unflatten``: labels follow the row-major order."""
    value: Value = a["self"]
    if 0 in value.shape or int(np.prod(value.shape)) != int(np.prod(ctx.shape)):
        return ctx.fix(value, range(value.rank), "not understood")
    why = ctx.reason("merged with another channel axis")
    out = reshape(ctx.labels, value, ctx.shape, why)
    ctx.site(value, out)
    return out


def permute(ctx: Context, a: Arguments) -> Value:
    """Axes reordered."""
    value: Value = a["self"]
    dims = [_dim(d, value.rank) for d in a["dims"]]
    return replace(value.renamed(ctx.shape, {d: i for i, d in enumerate(dims)}), data=None)


def transpose(ctx: Context, a: Arguments) -> Value:
    """Two axes exchanged; ``t`` for matrices."""
    value: Value = a["self"]
    first, second = _dim(a.get("dim0", 0), value.rank), _dim(a.get("dim1", -1), value.rank)
    axis = {d: d for d in range(value.rank)} | {first: second, second: first}
    return replace(value.renamed(ctx.shape, axis), data=None)


def squeeze(ctx: Context, a: Arguments) -> Value:
    """Axes of size 1 dropped."""
    value: Value = a["self"]
    dims = a.get("dim")
    listed = range(value.rank) if dims is None else [dims] if isinstance(dims, int) else dims
    gone = {_dim(d, value.rank) for d in listed if value.shape[_dim(d, value.rank)] == 1}
    left = [d for d in range(value.rank) if d not in gone]
    return replace(value.renamed(ctx.shape, {d: i for i, d in enumerate(left)}), data=None)


def unsqueeze(ctx: Context, a: Arguments) -> Value:
    """An axis of size 1 added."""
    value: Value = a["self"]
    new = _dim(a["dim"], value.rank + 1)
    axis = {d: d + (d >= new) for d in range(value.rank)}
    return replace(value.renamed(ctx.shape, axis), data=None)


def expand(ctx: Context, a: Arguments) -> Value:
    """Axes of size 1 repeated: the repeated axis is no channel."""
    value: Value = a["self"]
    shift = len(ctx.shape) - value.rank
    out = value.renamed(ctx.shape, {d: d + shift for d in range(value.rank)})
    ctx.site(value)
    return replace(out, data=None)


def repeat_interleave(ctx: Context, a: Arguments) -> Value:
    """Every index of an axis several times over, side by side: grouped queries' keys and values."""
    value: Value = ctx.canonical(a["self"])
    times, dim = a["repeats"], a.get("dim")
    if dim is None or not isinstance(times, int):
        raise ValueError("not repeated by one number along one axis")
    return repeated(value, _dim(dim, value.rank), times)


def repeated(value: Value, dim: int, times: int) -> Value:
    """Every index of an axis ``times`` over, side by side."""
    factors = []
    for factor in value.factors:
        if dim in factor.dims:
            axis = factor.dims.index(dim)
            labels = np.repeat(factor.labels, times, axis)
            factor = replace(factor, labels=labels, const=np.repeat(factor.const, times, axis))
        factors.append(factor)
    shape = tuple(s * times if d == dim else s for d, s in enumerate(value.shape))
    return replace(value, shape=shape, factors=tuple(factors), data=None)


def repeat(ctx: Context, a: Arguments) -> Value:
    """Tiling: labels are tiled with the values."""
    value: Value = ctx.canonical(a["self"])
    times = list(a["repeats"])
    shift = len(times) - value.rank
    factors = []
    for factor in value.factors:
        reps = [times[d + shift] for d in factor.dims]
        factors.append(
            Factor(
                dims=tuple(d + shift for d in factor.dims),
                labels=np.tile(factor.labels, reps),
                const=np.tile(factor.const, reps),
            )
        )
    ctx.site(value)
    return replace(value, shape=ctx.shape, factors=tuple(factors), data=None)


def cat(ctx: Context, a: Arguments) -> Value:
    """Concatenation: labels are concatenated along the axis and unified along the others."""
    parts: list[Value] = [v for v in a["tensors"] if v.shape != (0,)]
    rank = len(ctx.shape)
    dim = _dim(a["dim"], rank)
    why = "concatenated in a joint axis"
    parts = [ctx.isolate(v, dim, why) for v in parts]
    labels, consts, bare = [], [], []
    for part in parts:
        own = part.factor(dim)
        if own is None:
            # Frozen labels of its own hold its place, so that the indices behind it are counted
            # right.
            fixed = ctx.labels.fresh(part.shape[dim])
            ctx.labels.freeze(fixed, ctx.reason("concatenated with an axis that is no channel"))
            own = axis_factor(dim, fixed)
        labels.append(own.labels)
        consts.append(own.const)
        shape = tuple(1 if d == dim else s for d, s in enumerate(part.shape))
        bare.append(
            replace(part, shape=shape, factors=tuple(f for f in part.factors if f.dims != (dim,)))
        )
    shape = tuple(1 if d == dim else s for d, s in enumerate(ctx.shape))
    out = ctx.align(bare, shape)
    joined = axis_factor(dim, np.concatenate(labels), np.concatenate(consts))
    return replace(out, shape=ctx.shape, factors=(*out.factors, joined))


def stack(ctx: Context, a: Arguments) -> Value:
    """Like ``cat`` along a new axis, which is no channel."""
    new = _dim(a["dim"], len(ctx.shape))
    parts = [
        v.renamed((*v.shape[:new], 1, *v.shape[new:]), {d: d + (d >= new) for d in range(v.rank)})
        for v in a["tensors"]
    ]
    shape = tuple(1 if d == new else s for d, s in enumerate(ctx.shape))
    return replace(ctx.align(parts, shape), shape=ctx.shape)


def select(ctx: Context, a: Arguments) -> Value:
    """One index of an axis: in a joint axis the labels that differ only along it go together."""
    value = ctx.canonical(a["self"])
    dim = _dim(a["dim"], value.rank)
    return _selected(ctx, value, dim, a["index"])


def _selected(ctx: Context, value: Value, dim: int, index: int) -> Value:
    factor = value.factor(dim)
    if factor is not None and len(factor.dims) > 1:
        axis = factor.dims.index(dim)
        ctx.labels.unify_along(factor.labels, axis)
        own = factor.at(axis, index)
        value = replace(value, factors=tuple(own if f is factor else f for f in value.factors))
    else:
        value = ctx.fix(value, [dim], "one index taken by number")
    left = {d: d - (d > dim) for d in range(value.rank) if d != dim}
    shape = tuple(s for d, s in enumerate(value.shape) if d != dim)
    return replace(value.renamed(shape, left), data=None)


def unbind(ctx: Context, a: Arguments) -> tuple[Value, ...]:
    """Every index of an axis as a tensor of its own."""
    value = ctx.canonical(a["self"])
    dim = _dim(a["dim"], value.rank)
    return tuple(_selected(ctx, value, dim, i) for i in range(value.shape[dim]))


def along(name: str) -> Any:
    """A rule for operations that mix the indices of the axes named by an argument."""

    def rule(ctx: Context, a: Arguments) -> Value:
        value = ctx.canonical(a["self"])
        dims = a[name]
        listed = [dims] if isinstance(dims, int) else list(dims)
        at = [_dim(d, value.rank) for d in listed] or list(range(value.rank))
        value = ctx.fix(value, at, "indices along it are mixed")
        factors = tuple(replace(f, const=unknown(f.labels)) for f in value.factors)
        return replace(value, shape=ctx.shape, factors=factors, data=None)

    return rule


def flip(ctx: Context, a: Arguments) -> Value:
    """Axes reversed: labels reversed."""
    value = ctx.canonical(a["self"])
    gone = {_dim(d, value.rank) for d in a["dims"]}
    factors = []
    for f in value.factors:
        axes = tuple(i for i, d in enumerate(f.dims) if d in gone)
        factors.append(replace(f, labels=np.flip(f.labels, axes), const=np.flip(f.const, axes)))
    return replace(value, factors=tuple(factors), data=None)
