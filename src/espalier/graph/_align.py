"""Several tensors met index by index: elementwise operations, and products that are summed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from espalier.graph._labels import Ids, Labels
from espalier.graph._value import Constants, Factor, Value, canonical, fix

Combine = Callable[[list[Constants]], Constants]
"""Constants of the operands at an index (NaN: not known) -> constant of the result."""


def product(parts: list[Constants]) -> Constants:
    """A product is known where all factors are, or where one is zero."""
    out = parts[0]
    for part in parts[1:]:
        # Asked before multiplying, since 0 · NaN is NaN: zero times what is not known is zero.
        zero = (out == 0) | (part == 0)
        out = np.where(zero, 0.0, out * part)
    return out


def everything(parts: list[Constants]) -> Constants:
    """Known (as a mark, not a value) where all operands are."""
    return np.where(np.logical_and.reduce([~np.isnan(p) for p in parts]), 1.0, np.nan)


@dataclass(frozen=True, kw_only=True)
class Reduced:
    """The labels of one axis that was summed away, and the summand where it is constant."""

    labels: Ids
    const: Constants


def _uniform(value: Value) -> float:
    """The one number a tensor consists of, NaN if it is not known to be one."""
    if value.static and value.data is not None and value.data.numel() == 1:
        return float(value.data.item())
    return float("nan")


def _raised(value: Value, shape: tuple[int, ...]) -> Value:
    """The value with leading axes of size 1, to the rank of ``shape``."""
    shift = len(shape) - value.rank
    if shift == 0:
        return value
    return value.renamed((1,) * shift + value.shape, {d: d + shift for d in range(value.rank)})


def _components(values: Sequence[Value]) -> list[list[int]]:
    """Sets of axes connected by the factors of any operand."""
    found: list[set[int]] = []
    for value in values:
        for factor in value.factors:
            joined = set(factor.dims)
            for other in [c for c in found if c & joined]:
                joined |= other
                found.remove(other)
            found.append(joined)
    return sorted(sorted(c) for c in found)


def _without_fixed(labels: Labels, values: list[Value], reason: str) -> list[Value]:
    """Fix in all operands every axis that one of them carries without labels."""
    labelled = {d for v in values for f in v.factors for d in f.dims}
    solid = [
        d for d in sorted(labelled) if any(v.shape[d] > 1 and v.factor(d) is None for v in values)
    ]
    return [fix(labels, v, solid, reason) for v in values]


def _agreed(labels: Labels, values: list[Value], reason: str) -> list[Value]:
    """Leave over every set of connected axes at most one factor in each operand, over the same axes."""
    for dims in _components(values):
        covers = {f.dims for v in values for f in v.factors if set(f.dims) & set(dims)}
        if covers != {tuple(dims)}:
            values = [fix(labels, v, dims[1:], reason) for v in values]
    return values


def align(
    labels: Labels,
    operands: Sequence[Value],
    shape: tuple[int, ...],
    reason: str,
    combine: Combine = everything,
) -> Value:
    """Unify the labels of tensors that meet elementwise under broadcasting.

    An axis that one operand carries without labels is fixed in all. Where the operands label
    axes jointly in different ways, the first axis of the joint keeps its labels, the others are fixed.
    """
    values = [_raised(canonical(labels, v), shape) for v in operands]
    if any(own not in (1, size) for v in values for own, size in zip(v.shape, shape, strict=True)):
        raise ValueError(f"shapes {[v.shape for v in operands]} do not broadcast to {shape}")
    # Unlabelled axes first: fixing them takes axes out of joints, and may be all that kept two
    # operands from labelling the same ones.
    values = _agreed(labels, _without_fixed(labels, values, reason), reason)
    factors: list[Factor] = []
    for dims in _components(values):
        arrays = [v.factor(dims[0]) for v in values]
        held = [f for f in arrays if f is not None]
        for other in held[1:]:
            labels.unify(held[0].labels, other.labels)
        parts = [
            # An operand without labels here is broadcast along the axis; a scalar may still be
            # known.
            f.const if f is not None else np.full(held[0].const.shape, _uniform(v))
            for f, v in zip(arrays, values, strict=True)
        ]
        factors.append(replace(held[0], const=combine(parts)))
    static = all(v.static for v in operands)
    return Value(shape=shape, factors=tuple(factors), static=static)


def contract(
    labels: Labels, operands: Sequence[tuple[Value, str]], out: str, reason: str
) -> tuple[Value, list[Reduced]]:
    """A sum of products, as in ``einsum``: letters name axes, those not in ``out`` are summed.

    Returns:
        The result, and for each summed axis that carried labels of its own what it was. Where it
        was labelled jointly with an axis that stays, the labels along it are merged: they go with
        the axis that stays (the width of a head with its head).
    """
    summed = sorted({c for _, term in operands for c in term} - set(out))
    letters = out + "".join(summed)
    sizes = {c: s for v, term in operands for c, s in zip(term, v.shape, strict=True) if s != 1}
    shape = tuple(sizes.get(c, 1) for c in letters)
    spread = []
    for value, term in operands:
        where = {i: letters.index(c) for i, c in enumerate(term)}
        own = tuple(value.shape[term.index(c)] if c in term else 1 for c in letters)
        spread.append(value.renamed(own, where))
    value = align(labels, spread, shape, reason, product)
    for (operand, _), moved in zip(operands, spread, strict=True):
        if operand.static:
            for factor in moved.factors:
                gone = all(letters[d] in summed for d in factor.dims)
                # An axis of a parameter that is summed over reads channels; one that stays creates
                # them.
                (labels.consumed if gone else labels.produced)(factor.labels)
    reduced = []
    for dim in range(len(out), len(letters)):
        single = value.factor(dim)
        if single is None:
            continue
        if len(single.dims) > 1:
            value = fix(labels, value, [dim], reason)
            continue
        reduced.append(Reduced(labels=single.labels, const=single.const))
        value = replace(value, factors=tuple(f for f in value.factors if f is not single))
    return replace(value, shape=shape[: len(out)]), reduced
