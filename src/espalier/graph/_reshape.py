"""Labels through ``view``: axes merged and split."""

from dataclasses import replace

import numpy as np

from espalier.graph._labels import Labels
from espalier.graph._value import Factor, Value, canonical, fix


def blocks(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """The finest pairing of runs of axes with equal products; axes of size 1 stand outside.

    Example:
        >>> blocks((2, 12, 5), (2, 3, 4, 5))
        [([0], [0]), ([1], [1, 2]), ([2], [3])]
    """
    left = [d for d, size in enumerate(old) if size != 1]
    right = [d for d, size in enumerate(new) if size != 1]
    pairs: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(left) and j < len(right):
        ins, outs = [left[i]], [right[j]]
        have, want = old[left[i]], new[right[j]]
        i, j = i + 1, j + 1
        # The smaller product takes the next axis. Both shapes hold equally many entries, so the
        # products meet before either runs out.
        while have != want:
            if have < want:
                ins.append(left[i])
                have *= old[left[i]]
                i += 1
            else:
                outs.append(right[j])
                want *= new[right[j]]
                j += 1
        pairs.append((ins, outs))
    return pairs


def reshape(labels: Labels, value: Value, shape: tuple[int, ...], reason: str) -> Value:
    """The value seen with another shape.

    Two independently labelled axes that are merged cannot both stay labelled: the inner one is
    fixed, for ``reason``.
    """
    pairs = blocks(value.shape, shape)
    # The inner one is given up: the outer one's labels then come in runs of equal length, which a
    # later split can take apart again.
    for ins, outs in pairs:
        inside = [d for d in ins if value.factor(d) is not None]
        if len(ins) > 1 or len(outs) > 1:
            while len({id(value.factor(d)) for d in inside}) > 1:
                value = fix(labels, value, inside[-1:], reason)
                inside.pop()
    value = canonical(labels, value)
    factors = []
    for factor in value.factors:
        touched = [pair for pair in pairs if set(pair[0]) & set(factor.dims)]
        axes = [d for pair in touched for d in pair[0]]
        new_axes = tuple(d for pair in touched for d in pair[1])
        inner = tuple(value.shape[d] if d in factor.dims else 1 for d in axes)
        full = tuple(value.shape[d] for d in axes)
        target = tuple(shape[d] for d in new_axes)
        # ``view`` keeps the row-major order of entries, so reshaping the array of labels is what
        # it does to the labels. Axes without labels are broadcast over here and dropped again at
        # the end.
        spread = np.broadcast_to(factor.labels.reshape(inner), full).reshape(target)
        const = np.broadcast_to(factor.const.reshape(inner), full).reshape(target)
        factors.append(Factor(dims=new_axes, labels=spread, const=const))
    return canonical(labels, replace(value, shape=shape, factors=tuple(factors), data=None))
