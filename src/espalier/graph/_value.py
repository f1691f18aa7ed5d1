"""An abstract tensor: its shape, and the labels its axes carry.

A *factor* labels one axis, or several jointly: after ``view(batch, heads, width)`` of a labelled
axis, the labels form a ``(heads, width)`` array over two axes. An axis in no factor is fixed:
batch, position, kernel, or of size 1 (neutral in broadcasting).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from espalier.graph._labels import Ids, Labels

Constants = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Factor:
    """Labels over the axes ``dims`` (ascending) of a tensor.

    Attributes:
        dims: The axes labelled.
        labels: One label per index, shape = the sizes of ``dims``.
        const: What the tensor equals at that index, at every other position and for every input;
            NaN where that is not known. Same shape as ``labels``.
    """

    dims: tuple[int, ...]
    labels: Ids
    const: Constants

    def moved(self, dims: tuple[int, ...], labels: Ids, const: Constants) -> "Factor":
        """The same labels on other axes, ``dims`` in the order of the arrays' axes."""
        order = np.argsort(dims)
        return Factor(
            dims=tuple(dims[i] for i in order),
            labels=labels.transpose(order),
            const=const.transpose(order),
        )

    def at(self, axis: int, index: int) -> "Factor":
        """What is left of a joint factor when one index is taken of one of its axes."""
        return Factor(
            dims=self.dims[:axis] + self.dims[axis + 1 :],
            labels=self.labels.take([index], axis).squeeze(axis),
            const=self.const.take([index], axis).squeeze(axis),
        )


@dataclass(frozen=True, kw_only=True)
class Value:
    """An abstract tensor.

    Attributes:
        shape: Sizes.
        factors: Disjoint in their axes.
        static: It depends on parameters, buffers and constants only.
        data: The concrete tensor, when constants are followed.
    """

    shape: tuple[int, ...]
    factors: tuple[Factor, ...] = ()
    static: bool = False
    data: Tensor | None = None

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def factor(self, dim: int) -> Factor | None:
        """The factor that labels axis ``dim``, or None when it is fixed."""
        return next((f for f in self.factors if dim in f.dims), None)

    def labels(self, dim: int) -> Ids | None:
        """The labels of an axis that has a factor of its own."""
        factor = self.factor(dim)
        return None if factor is None or len(factor.dims) > 1 else factor.labels

    def all_labels(self) -> Ids:
        """Every label the tensor carries."""
        parts = [f.labels.reshape(-1) for f in self.factors]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    def renamed(self, shape: Sequence[int], axis: dict[int, int]) -> "Value":
        """The axes renumbered by ``axis`` (old -> new); an axis that is not in it has no labels."""
        factors = tuple(
            f.moved(tuple(axis[d] for d in f.dims), f.labels, f.const) for f in self.factors
        )
        return replace(self, shape=tuple(shape), factors=factors)


def unknown(labels: Ids) -> Constants:
    """Constants not known, for an array of labels."""
    return np.full(labels.shape, np.nan)


def axis_factor(dim: int, labels: Ids, const: Constants | None = None) -> Factor:
    """A factor for one axis."""
    return Factor(dims=(dim,), labels=labels, const=unknown(labels) if const is None else const)


def _collapsed(const: Constants, axis: int) -> Constants:
    """One constant for all indices along ``axis``, where they agree."""
    first = const.take([0], axis)
    same = (const == first).all(axis=axis)
    return np.where(same, first.squeeze(axis), np.nan)


def fix(labels: Labels, value: Value, dims: Iterable[int], reason: str) -> Value:
    """Make axes fixed: they keep their size.

    The labels of an axis with a factor of its own are frozen. Where the axis is labelled jointly
    with others, the labels that differ only along it are merged: they go together or not at all.
    """
    for dim in dims:
        factor = value.factor(dim)
        if factor is None:
            continue
        rest = tuple(f for f in value.factors if f is not factor)
        if len(factor.dims) == 1:
            labels.freeze(factor.labels, reason)
        else:
            axis = factor.dims.index(dim)
            left = tuple(d for d in factor.dims if d != dim)
            merged = labels.unify_along(factor.labels, axis)
            rest += (Factor(dims=left, labels=merged, const=_collapsed(factor.const, axis)),)
        value = replace(value, factors=rest)
    return value


def canonical(labels: Labels, value: Value) -> Value:
    """Drop from joint factors the axes along which the class does not change."""
    if all(len(f.dims) == 1 for f in value.factors):
        return value
    factors = []
    for factor in value.factors:
        axis = 0
        while len(factor.dims) > 1 and axis < len(factor.dims):
            roots = labels.find(factor.labels)
            # Compared by class, not by label: what was unified since makes no difference any more.
            # After a drop the next axis stands at the same number, so ``axis`` moves on only
            # without one.
            if (roots == roots.take([0], axis)).all():
                const = _collapsed(factor.const, axis)
                factor = replace(factor.at(axis, 0), const=const)
            else:
                axis += 1
        factors.append(factor)
    return replace(value, factors=tuple(factors))
