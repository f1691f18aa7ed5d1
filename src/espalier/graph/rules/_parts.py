"""Axes cut into parts: ``split``, ``chunk``, ``narrow`` and slices.

The borders cut an axis into pieces. Pieces of equal size lose the same indices: a forward that cuts into
three (q, k, v; the gates of a cell) still finds three equal pieces, and a number in it that says the size of
several still says that of all. Pieces of other sizes lose what they will, and the sizes and borders that
the program says are noted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch

from espalier.graph._context import Arguments, Context
from espalier.graph._value import Factor, Value

SECTIONS = "cut at literal sizes"
MANY = 8
"""An axis cut into more pieces is no channel axis."""
FEW = 3
"""The first or last indices up to here are told apart by their place (a token, a coordinate)."""


def part(ctx: Context, value: Value, dim: int, start: int, size: int) -> Value:
    """One of the equal parts of an axis: the parts keep equal sizes, index by index."""
    borders = range(0, value.shape[dim] + 1, size)
    return _between(_cut(ctx, value, dim, borders), dim, start, start + size)


def _cut(ctx: Context, value: Value, dim: int, borders: Sequence[int]) -> Value:
    """The value whose pieces of equal size along an axis lose the same indices."""
    factor = value.factor(dim)
    if factor is None or len(borders) < 3:
        return value
    pieces = list(pairwise(borders))
    sizes = {end - start for start, end in pieces}
    # One label for each index of a joint axis (heads by width) would leave every head a width of its own.
    joint = len(factor.dims) > 1 and len(sizes) > 1
    if joint or len(pieces) > MANY or ctx.labels.stay(factor.labels):
        return ctx.fix(value, [dim], SECTIONS)
    axis = factor.dims.index(dim)
    for size in sizes:
        alike = [factor.labels.take(range(*p), axis) for p in pieces if p[1] - p[0] == size]
        for other in alike[1:]:
            ctx.labels.unify(alike[0], other)
        if len(sizes) > 1 and size < FEW:
            for one in alike:
                ctx.labels.freeze(one, ctx.reason(SECTIONS))
    return ctx.canonical(value)


def _between(value: Value, dim: int, start: int, end: int, step: int = 1) -> Value:
    """Some of the indices of an axis."""
    factors, at = [], range(start, end, step)
    for factor in value.factors:
        if dim in factor.dims:
            axis = factor.dims.index(dim)
            factor = Factor(
                dims=factor.dims,
                labels=factor.labels.take(at, axis),
                const=factor.const.take(at, axis),
            )
        factors.append(factor)
    shape = tuple(len(at) if d == dim else s for d, s in enumerate(value.shape))
    return replace(value, shape=shape, factors=tuple(factors), data=None)


def split(ctx: Context, a: Arguments) -> tuple[Value, ...]:
    """``split`` and ``chunk``: the sizes of the parts may stand in the program."""
    whole = ctx.canonical(a["self"])
    dim = a["dim"] % max(whole.rank, 1)
    borders = [0]
    for shape in ctx.shapes:
        borders.append(borders[-1] + shape[dim])
    value = _cut(ctx, whole, dim, borders)
    parts = tuple(_between(value, dim, *ends) for ends in pairwise(borders))
    if whole.factor(dim) is not None:
        for one in parts:
            ctx.site(whole, one)
    return parts


def narrow(ctx: Context, a: Arguments) -> Value:
    """``slice``: what is cut elsewhere from the same tensor says where its pieces end."""
    whole = ctx.canonical(a["self"])
    dim = a["dim"] % whole.rank
    given = a.get("start"), a.get("end")
    total = whole.shape[dim]
    start, end, step = slice(*given, a.get("step", 1)).indices(total)
    factor = whole.factor(dim)
    if factor is None or (start, end, step) == (0, total, 1):
        return replace(_between(whole, dim, start, end, step), shape=ctx.shape)
    if step > 1 or end <= start:
        return _strided(ctx, whole, dim, start, end, step)
    borders = sorted({0, total, *_borders(ctx.node, dim, whole.rank, total)})
    value = _cut(ctx, whole, dim, borders)
    out = _between(value, dim, start, end)
    # What other slices take is no loss of this one; and of what none takes any may go.
    ctx.noted.append(value.all_labels())
    # The program may say the size of the whole or of the part, or where it begins and ends.
    ends = (_counted(value, dim, one) for one in given if one is not None)
    ctx.site(whole, out, *ends)
    return out


def _counted(value: Value, dim: int, border: int) -> Value:
    """The indices that a border counts: those before it, or, below zero, those behind it."""
    total = value.shape[dim]
    ends = (total + border, total) if border < 0 else (0, min(border, total))
    return _between(value, dim, *ends)


def _strided(ctx: Context, value: Value, dim: int, start: int, end: int, step: int) -> Value:
    """Every second index (or n-th): such runs go whole, so that the next begins where it should."""
    factor, total = value.factor(dim), value.shape[dim]
    whole = end > total - step and start < step and total % step == 0
    if factor is None or len(factor.dims) > 1 or not whole or step > MANY:
        value = ctx.fix(value, [dim], SECTIONS)
    else:
        ctx.labels.unify_along(factor.labels.reshape(-1, step), 1)
    return replace(_between(value, dim, start, end, step), shape=ctx.shape)


def _borders(node: torch.fx.Node, dim: int, rank: int, total: int) -> Iterator[int]:
    """Where slices of one tensor along one axis begin and end."""
    source = node.args[0]
    assert isinstance(source, torch.fx.Node)
    for other in source.users:
        if other.target is not torch.ops.aten.slice.Tensor or other.args[0] is not source:
            continue
        given: tuple[Any, ...] = (*other.args[1:], *(0, None, None, 1)[len(other.args) - 1 :])
        axis, start, end, step = given
        if axis % rank == dim and step == 1:
            yield from slice(start, end).indices(total)[:2]
