"""Indices taken by number or by tensor, and writes into parts of a tensor."""

from dataclasses import replace

import numpy as np

from espalier.graph._context import Arguments, Context
from espalier.graph._value import Value

TAKEN = "indices taken by number"


def index(ctx: Context, a: Arguments) -> Value:
    """``x[i, :, j]`` with index tensors: the axes they address are fixed, the others pass."""
    value = ctx.canonical(a["self"])
    given = [d for d, i in enumerate(a["indices"]) if isinstance(i, Value)]
    shapes = [a["indices"][d].shape for d in given]
    inner = len(np.broadcast_shapes(*shapes))
    value = ctx.fix(value, given, TAKEN)
    rest = [d for d in range(value.rank) if d not in given]
    # NumPy's rule: the result of index tensors side by side stands where they stood, else in
    # front.
    adjacent = given == list(range(given[0], given[0] + len(given)))
    start = given[0] if adjacent else 0
    axis = {d: i if i < start else i + inner for i, d in enumerate(rest)}
    return replace(value.renamed(ctx.shape, axis), static=False, data=None)


def index_select(ctx: Context, a: Arguments) -> Value:
    """Indices of one axis: which of them stay cannot be said for the smaller tensor."""
    value = ctx.canonical(a["self"])
    value = ctx.fix(value, [a["dim"] % value.rank], TAKEN)
    return replace(value, shape=ctx.shape, static=False, data=None)


def scatter_part(ctx: Context, a: Arguments) -> Value:
    """``slice_scatter``, ``select_scatter``: the axis is fixed, the others meet elementwise."""
    value, source = a["self"], a["src"]
    dim = a.get("dim", 0) % value.rank
    if source.rank < value.rank:
        shape = (*source.shape[:dim], 1, *source.shape[dim:])
        source = source.renamed(shape, {d: d + (d >= dim) for d in range(source.rank)})
    value, source = (ctx.fix(v, [dim], TAKEN) for v in (value, source))
    bare = [
        replace(v, shape=tuple(1 if d == dim else s for d, s in enumerate(v.shape)))
        for v in (value, source)
    ]
    shape = tuple(1 if d == dim else s for d, s in enumerate(ctx.shape))
    return replace(ctx.align(bare, shape), shape=ctx.shape)


def windows(ctx: Context, a: Arguments) -> Value:
    """``unfold`` of an axis into windows, as a new last axis."""
    value = ctx.canonical(a["self"])
    value = ctx.fix(value, [a["dimension"] % value.rank], TAKEN)
    return replace(value, shape=ctx.shape, data=None)


def roll(ctx: Context, a: Arguments) -> Value:
    """Axes rolled by literal amounts are fixed."""
    value = ctx.canonical(a["self"])
    dims = [d % value.rank for d in a["dims"]] or list(range(value.rank))
    return replace(ctx.fix(value, dims, TAKEN), data=None)


def triangle(ctx: Context, a: Arguments) -> Value:
    """``tril``, ``triu``: the last two axes are positions."""
    value = ctx.canonical(a["self"])
    value = ctx.fix(value, [value.rank - 2, value.rank - 1], TAKEN)
    return replace(value, data=None)
