"""Windows of an image as columns (``F.unfold``), and back (``F.fold``)."""

from dataclasses import replace

import numpy as np

from espalier.graph._context import Arguments, Context
from espalier.graph._value import Value, axis_factor

POSITIONS = "positions are mixed"


def im2col(ctx: Context, a: Arguments) -> Value:
    """(N, C, H, W) -> (N, C · positions, windows): a channel becomes one entry for every position."""
    value: Value = ctx.canonical(a["self"])
    channel = value.rank - 3
    value = ctx.fix(value, [d for d in range(value.rank) if d != channel], POSITIONS)
    factor = value.factor(channel)
    if factor is None:
        return replace(value, shape=ctx.shape, factors=(), data=None)
    positions = int(np.prod(a["kernel_size"]))
    # Windows reach over the border: of all constants only zero stays one.
    const = np.where(factor.const == 0, 0.0, np.nan) if any(a["padding"]) else factor.const
    own = axis_factor(channel, np.repeat(factor.labels, positions), np.repeat(const, positions))
    ctx.site(value)
    return Value(shape=ctx.shape, factors=(own,))


def col2im(ctx: Context, a: Arguments) -> Value:
    """The inverse: what lies at one place is summed, so a channel's positions go together."""
    value: Value = ctx.canonical(a["self"])
    channel = value.rank - 2
    value = ctx.fix(value, [d for d in range(value.rank) if d != channel], POSITIONS)
    factor = value.factor(channel)
    if factor is None:
        return replace(value, shape=ctx.shape, factors=(), data=None)
    positions = int(np.prod(a["kernel_size"]))
    merged = ctx.labels.unify_along(factor.labels.reshape(-1, positions), 1)
    still = (factor.const.reshape(-1, positions) == 0).all(1)
    ctx.site(value)
    own = axis_factor(channel, merged, np.where(still, 0.0, np.nan))
    return Value(shape=ctx.shape, factors=(own,))
