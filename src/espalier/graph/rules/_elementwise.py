"""Operations that treat every index alike."""

from dataclasses import replace

import numpy as np
from torch import Tensor

from espalier.graph._align import everything, product
from espalier.graph._context import Arguments, Context, place
from espalier.graph._value import Constants, Value, axis_factor, unknown


def tensors(arguments: Arguments) -> list[Value]:
    """Every tensor among the arguments, those in lists too."""
    found: list[Value] = []
    for argument in arguments.values():
        if isinstance(argument, Value):
            found.append(argument)
        elif isinstance(argument, (tuple, list)):
            found.extend(a for a in argument if isinstance(a, Value))
    return found


def pointwise(ctx: Context, a: Arguments) -> Value:
    """Unary, binary and ternary functions under broadcasting: labels of aligned indices unify."""
    return ctx.align(tensors(a))


def multiply(ctx: Context, a: Arguments) -> Value:
    """A product: zero wherever one factor is."""
    return ctx.align(tensors(a), combine=product)


def first_zero(parts: list[Constants]) -> Constants:
    """Zero where the first operand is; else known where all are."""
    return np.where(parts[0] == 0, 0.0, everything(parts))


def divide(ctx: Context, a: Arguments) -> Value:
    """A quotient: a zero numerator stays zero whatever the (nonzero) denominator is."""
    operands = tensors(a)
    first = first_zero if isinstance(a["self"], Value) else everything
    return ctx.align(operands, combine=first)


def prelu(ctx: Context, a: Arguments) -> Value:
    """A slope for every channel, on axis 1; zero stays zero."""
    x, slope = a["self"], a["weight"]
    if slope.rank == 1 and slope.shape[0] > 1:
        slope = place(slope, 1, x.rank)
    return ctx.align([x, slope], combine=first_zero)


def same(ctx: Context, a: Arguments) -> Value:
    """Copies, casts, dropout in evaluation mode."""
    return replace(next(iter(tensors(a))), shape=ctx.shape, data=None)


def typed(ctx: Context, a: Arguments) -> Value:
    """A copy in the dtype of another tensor, of which no more is read."""
    value: Value = a["self"]
    ctx.noted.append(a["other"].all_labels())
    return replace(value, data=None)


def like(ctx: Context, a: Arguments) -> Value:
    """A new tensor as large as another (``zeros_like``): constant in every index."""
    value = next(iter(tensors(a)))
    factors = tuple(replace(f, const=np.ones(f.labels.shape)) for f in value.factors)
    return replace(value, factors=factors, data=None)


def fresh(ctx: Context, a: Arguments) -> Value:
    """A new tensor of literal sizes; another may say its dtype, and no more (``new_zeros``)."""
    ctx.noted.extend(value.all_labels() for value in tensors(a))
    return Value(shape=ctx.shape, static=True)


def uniform(ctx: Context, a: Arguments) -> Value:
    """A new tensor of one number (``zeros``): its axes may be channels, of sizes that the program says.

    The state that a scan begins with is one.
    """
    ctx.noted.extend(value.all_labels() for value in tensors(a))
    factors = []
    for dim, size in enumerate(ctx.shape):
        if size > 1:
            labels = ctx.labels.fresh(size)
            factors.append(axis_factor(dim, labels, np.ones(size)))
    value = Value(shape=ctx.shape, factors=tuple(factors), static=True)
    ctx.site(value)
    return value


def opaque(ctx: Context, a: Arguments) -> Value | tuple[Value, ...]:
    """An operation that is not understood: what it touches is frozen, and it is named."""
    why = ctx.reason("not understood")
    touched = [value for value in tensors(a) if value.factors]
    if touched:
        ctx.unknown.setdefault(ctx.op, ctx.module)
    for value in touched:
        ctx.labels.freeze(value.all_labels(), why)
    many = tuple(Value(shape=shape) for shape in ctx.shapes)
    return many if isinstance(ctx.node.meta["val"], (tuple, list)) else many[0]


def forget(value: Value) -> Value:
    """The value with no constant known."""
    factors = tuple(replace(f, const=unknown(f.labels)) for f in value.factors)
    return replace(value, factors=factors, data=None)


def is_tensor_node(found: object) -> bool:
    """Does this metadata describe tensors?"""
    many = found if isinstance(found, (tuple, list)) else [found]
    return any(isinstance(t, Tensor) for t in many)
