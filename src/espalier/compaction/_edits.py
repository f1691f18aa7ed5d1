"""What was taken out, as data: parameter name, axis, kept indices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from espalier.errors import RequestError
from espalier.graph._groups import ChannelGraph
from espalier.graph._labels import Ids


@dataclass(frozen=True, kw_only=True)
class SliceEdit:
    """Keep some indices of one axis of one parameter or buffer.

    Attributes:
        name: As in ``model.named_parameters()`` or ``named_buffers()``.
        axis: The axis.
        size: Its size before.
        keep: The indices that stay, ascending.
    """

    name: str
    axis: int
    size: int
    keep: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class AttributeEdit:
    """A size that a module holds as a number, changed with its parameters.

    Attributes:
        module: Path of the module.
        name: The attribute, an ``int``.
        before: Its value before.
        after: Its value after.
    """

    module: str
    name: str
    before: int
    after: int


@dataclass(frozen=True, kw_only=True)
class ColumnEdit:
    """Keep some columns of a convolution's weight: (O, I, kh, kw) becomes (O, columns, 1, 1).

    Attributes:
        name: Of the weight; what slices cut off it is gone already.
        shape: (I, kh, kw).
        keep: The columns that stay, numbered through ``shape``, ascending.
    """

    name: str
    shape: tuple[int, int, int]
    keep: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Edits:
    """Everything that turns the dense architecture into the compact one.

    Example:
        >>> edit = SliceEdit(name="conv.weight", axis=0, size=3, keep=(0, 2))
        >>> Edits.from_data(Edits(slices=(edit,)).as_data()).slices == (edit,)
        True
    """

    slices: tuple[SliceEdit, ...] = ()
    attributes: tuple[AttributeEdit, ...] = ()
    columns: tuple[ColumnEdit, ...] = ()

    def as_data(self) -> dict[str, Any]:
        """As what JSON can hold."""
        return {
            "slices": [
                {"name": e.name, "axis": e.axis, "size": e.size, "keep": list(e.keep)}
                for e in self.slices
            ],
            "attributes": [
                {"module": e.module, "name": e.name, "before": e.before, "after": e.after}
                for e in self.attributes
            ],
            "columns": [
                {"name": e.name, "shape": list(e.shape), "keep": list(e.keep)} for e in self.columns
            ],
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Edits":
        """The inverse of :meth:`as_data`.

        Raises:
            RequestError: The data is not that of edits, or indices are not ascending within size.
        """
        try:
            slices = tuple(
                SliceEdit(
                    name=str(e["name"]),
                    axis=int(e["axis"]),
                    size=int(e["size"]),
                    keep=tuple(int(i) for i in e["keep"]),
                )
                for e in data["slices"]
            )
            attributes = tuple(
                AttributeEdit(
                    module=str(e["module"]),
                    name=str(e["name"]),
                    before=int(e["before"]),
                    after=int(e["after"]),
                )
                for e in data["attributes"]
            )
            columns = tuple(
                ColumnEdit(
                    name=str(e["name"]),
                    shape=_three(e["shape"]),
                    keep=tuple(int(i) for i in e["keep"]),
                )
                for e in data["columns"]
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RequestError(f"these are not edits: {error!r}") from error
        for edit in slices:
            _check(edit.name, f"indices of axis {edit.axis}", edit.keep, edit.size)
        for column in columns:
            _check(column.name, "columns", column.keep, prod(column.shape))
        return cls(slices=slices, attributes=attributes, columns=columns)


def _three(sizes: Sequence[Any]) -> tuple[int, int, int]:
    channels, rows, columns = sizes
    return int(channels), int(rows), int(columns)


def _check(name: str, what: str, keep: tuple[int, ...], size: int) -> None:
    rising = all(a < b for a, b in pairwise(keep))
    if not keep or not rising or keep[0] < 0 or keep[-1] >= size:
        raise RequestError(f"{name}: kept {what} must ascend within [0, {size}) and not be empty")


def slice_edits(graph: ChannelGraph, gone: Ids) -> tuple[SliceEdit, ...]:
    """The edits that remove the classes ``gone``."""
    edits = []
    # Sorted, so that the order of the edits is not that of the walk.
    for (name, axis), ids in sorted(graph.classes.items()):
        alive = ~np.isin(ids, gone)
        if not alive.all():
            keep = tuple(np.flatnonzero(alive).tolist())
            edits.append(SliceEdit(name=name, axis=axis, size=len(ids), keep=keep))
    return tuple(edits)
