"""Recurrent layers: a hidden unit is one row of every gate, in every layer and direction."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from espalier.graph._context import Arguments, Context, Read
from espalier.graph._labels import Ids
from espalier.graph._value import Constants, Factor, Value, axis_factor, unknown
from espalier.graph.rules._convolution import tie

GATES = {"gru": 3, "lstm": 4, "rnn_tanh": 1, "rnn_relu": 1}
STATE = "the state it starts from is given"


def recurrent(ctx: Context, a: Arguments) -> tuple[Value, ...]:
    """``gru``, ``lstm``, ``rnn_tanh``, ``rnn_relu`` on padded sequences.

    PyTorch's layers have one hidden size, so unit j goes in all layers and directions together. A
    unit whose rows are zero stays at the zero it starts from: tanh(0) = 0, whatever the gates do.
    """
    kind = ctx.op.split(".")[1]
    gates, ways = GATES[kind], 2 if a["bidirectional"] else 1
    x: Value = a["input"]
    x = ctx.isolate(x, x.rank - 1, "joint with the axis that a weight reads")
    x = ctx.fix(x, range(x.rank - 1), "positions in time")
    layers = list(_layers(a, ways))
    hidden = layers[0][0][1].shape[1]
    unit = ctx.labels.fresh(hidden)
    if not _starts_at_zero(ctx):
        ctx.labels.freeze(unit, ctx.reason(STATE))
    # A unit has a state in every layer and direction. A NaN, not known, in one of them carries
    # through the maxima below to all.
    read, still = x.factor(x.rank - 1), np.zeros(hidden)
    for directions in layers:
        # The interpreter takes a ValueError to mean that the call is not understood: it freezes
        # what the call touches and names it.
        if any(w.shape[1] != hidden or w.shape[0] != gates * hidden for _, w, *_ in directions):
            raise ValueError("the state is projected")
        parts = [_cell(ctx, read, unit, gates, tensors) for tensors in directions]
        still = np.where([np.isnan(p) for p in parts], np.nan, still).max(axis=0)
        read = axis_factor(0, np.tile(unit, ways), np.concatenate(parts))
    if read is None:
        raise ValueError("no layers")
    out = Value(
        shape=ctx.shape, factors=(axis_factor(len(ctx.shape) - 1, read.labels, read.const),)
    )
    states = (
        Value(shape=shape, factors=(axis_factor(len(shape) - 1, unit, still),))
        for shape in ctx.shapes[1:]
    )
    return (out, *states)


def _layers(a: Arguments, ways: int) -> Iterator[list[tuple[Value, ...]]]:
    """The tensors of every direction of every layer: input weight, state weight, biases."""
    params: list[Value] = list(a["params"])
    each = 4 if a["has_biases"] else 2
    if len(params) != a["num_layers"] * ways * each:
        raise ValueError("the state is projected")
    for layer in range(a["num_layers"]):
        at = [(layer * ways + way) * each for way in range(ways)]
        yield [tuple(params[i : i + each]) for i in at]


def _starts_at_zero(ctx: Context) -> bool:
    given = ctx.node.args[1]
    nodes = given if isinstance(given, (list, tuple)) else [given]
    return all(isinstance(n, torch.fx.Node) and "zeros" in str(n.target) for n in nodes)


def _cell(
    ctx: Context, read: Factor | None, unit: Ids, gates: int, tensors: tuple[Value, ...]
) -> Constants:
    """Tie the rows of one direction of one layer; where the unit is zero for every input."""
    incoming, state, *_ = tensors
    for value in tensors:
        rows = value.labels(0)
        if rows is None:
            raise ValueError("a single hidden unit")
        ctx.labels.unify(rows.reshape(gates, -1), unit[None])
        ctx.labels.produced(rows)
    tie(ctx, unit, state.labels(1))
    tie(ctx, None if read is None else read.labels, incoming.labels(1))
    if any(v.data is None for v in tensors):
        return unknown(unit)
    own = _depends(state, gates)
    if read is not None:
        _note(ctx, read.labels, read.const, unit, _depends(incoming, gates))
    loose = [_depends(v, gates).any(axis=1) for v in tensors]
    const = np.where(np.logical_or.reduce(loose), np.nan, 0.0)
    _note(ctx, unit, const, unit, own)
    return const


def _depends(value: Value, gates: int) -> NDArray[np.bool_]:
    """Does any gate of unit o read entry i? Shape (O, I); a bias has one entry."""
    data = value.data
    if data is None:
        raise ValueError("no weights")
    found: NDArray[np.bool_] = (data != 0).reshape(gates, -1, *data.shape[1:]).any(0).cpu().numpy()
    return found.reshape(len(found), -1)


def _note(
    ctx: Context, inputs: Ids, const: Constants, unit: Ids, nonzero: NDArray[np.bool_]
) -> None:
    """Note the read; that a unit reads itself keeps it alive no more than it would be."""
    other = nonzero & (ctx.labels.find(inputs)[None] != ctx.labels.find(unit)[:, None])
    ctx.reads.append(
        Read(node=ctx.node.name, inputs=inputs, const=const, outputs=unit, nonzero=other)
    )
