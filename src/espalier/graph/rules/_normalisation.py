"""Normalisation layers: per channel (exact), per group of channels, over the channel (frozen)."""

from dataclasses import replace

import numpy as np

from espalier.graph._align import everything, product
from espalier.graph._context import Arguments, Context, place
from espalier.graph._value import Constants, Value
from espalier.graph.rules._elementwise import forget

OVER = "its statistics run over the channel, so removing any changes the others"


def _outputs(ctx: Context, value: Value) -> Value | tuple[Value, ...]:
    if not isinstance(ctx.node.meta["val"], (tuple, list)):
        return value
    return (value, *(Value(shape=shape) for shape in ctx.shapes[1:]))


def _affine(ctx: Context, a: Arguments, x: Value, names: tuple[str, ...], dim: int) -> Value:
    """The normalised value times γ plus β; known where it is, or where γ is zero."""
    given = [a[n] for n in names if isinstance(a.get(n), Value)]
    vectors = [place(v, dim, x.rank) for v in given]
    gamma = a.get("weight")
    has_gamma = isinstance(gamma, Value)

    def combine(parts: list[Constants]) -> Constants:
        known = everything(parts)
        # ``parts`` are in the order of [x, *vectors] and γ is named first: γ = 0 leaves β,
        # whatever x is.
        return np.where(parts[1] == 0, 1.0, known) if has_gamma else known

    return ctx.align([x, *vectors], x.shape, combine, "normalised per channel, but it is none")


def batch_norm(ctx: Context, a: Arguments) -> Value | tuple[Value, ...]:
    """Running statistics: an affine map of each channel; γ, β, mean and variance go with it."""
    names = ("weight", "bias", "running_mean", "running_var")
    return _outputs(ctx, _affine(ctx, a, a["input"], names, 1))


def own_statistics(ctx: Context, a: Arguments) -> Value | tuple[Value, ...]:
    """Statistics of the channel itself, over positions (instance norm, standardised weights)."""
    x = ctx.canonical(a["input"])
    counted = [
        d
        for f in x.factors
        for d in f.dims
        if f.dims != (1,) and x.static and ctx.count(f, own=True)
    ]
    x = ctx.fix(x, [d for d in range(x.rank) if d != 1 and d not in counted], OVER)
    factors = tuple(
        # A zero that is counted beside others is none afterwards.
        replace(f, const=np.where((f.const == 0) & (f.dims[0] not in counted), 0.0, np.nan))
        for f in x.factors
    )
    names = ("weight", "bias", "running_mean", "running_var")
    return _outputs(ctx, _affine(ctx, a, replace(x, factors=factors), names, 1))


def weight_norm(ctx: Context, a: Arguments) -> Value | tuple[Value, ...]:
    """``g v / ‖v‖`` for every index of one axis of v.

    Zeros of v on its other axes add nothing to the norm. On its own axis g creates the channel and v follows: zeros
    there would be 0 / 0.
    """
    v, g = a["v"], a["g"]
    dim = a["dim"] % v.rank
    own = v.labels(dim)
    if own is not None:
        ctx.labels.follows(own)
    gain = g.labels(dim)
    if gain is not None:
        ctx.labels.produced(gain)
    # The quotient is of v alone where v is zero, whatever else its norm is made of.
    return _outputs(ctx, ctx.align([v, g], v.shape, product))


def group_norm(ctx: Context, a: Arguments) -> Value | tuple[Value, ...]:
    """Statistics over a group of channels: whole groups go, or none."""
    groups = a["group"] if "group" in a else a["num_groups"]
    x = ctx.fix(a["input"], range(2, a["input"].rank), OVER)
    x = ctx.isolate(x, 1, "normalised in groups")
    factor = x.factor(1)
    if factor is not None:
        own = factor.labels.reshape(groups, -1)
        if groups == 1 and ctx.count(factor):
            return _outputs(ctx, _affine(ctx, a, forget(x), ("weight", "bias"), 1))
        if groups == 1:
            ctx.labels.freeze(own, ctx.reason(OVER))
        ctx.labels.unify_along(own, 1)
        still = np.repeat((factor.const.reshape(groups, -1) == 0).all(1), own.shape[1])
        steady = replace(factor, const=np.where(still, 0.0, np.nan))
        x = replace(x, factors=tuple(steady if f is factor else f for f in x.factors))
        ctx.site(x)
    return _outputs(ctx, _affine(ctx, a, x, ("weight", "bias"), 1))


def layer_norm(ctx: Context, a: Arguments) -> Value | tuple[Value, ...]:
    """Statistics over the last axes: their channels are coupled to γ and β.

    They may go where the module can go on counting them (:meth:`Context.count`).
    """
    x: Value = ctx.canonical(a["input"])
    count = len(a["normalized_shape"])
    # Where γ is zero the output is β, whatever x is; else nothing is known of it.
    if count == 1:
        out = _affine(ctx, a, forget(x), ("weight", "bias"), x.rank - 1)
    else:
        affine = [a[n] for n in ("weight", "bias") if isinstance(a.get(n), Value)]
        out = forget(ctx.align([x, *affine], x.shape))
    for factor in out.factors:
        counted = count == 1 and factor.dims == (x.rank - 1,) and ctx.count(factor)
        if factor.dims[-1] >= x.rank - count and not counted:
            ctx.labels.freeze(factor.labels, ctx.reason(OVER))
    return _outputs(ctx, out)
