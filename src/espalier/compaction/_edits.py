"""What was taken out, as data: parameter name, axis, kept indices."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
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


Number = int | tuple[int, ...]
FORWARD = "forward"
"""The attribute whose numbers are the literals in its code."""


@dataclass(frozen=True, kw_only=True)
class AttributeEdit:
    """Sizes that a module holds as numbers, changed with its parameters.

    Attributes:
        module: Path of the module.
        name: The attribute: an ``int``, a tuple or list of them, one of an object that the module holds
            (``config.num_heads``), ``forward``, some of whose literals are meant, or a name that a
            method gives to a size of a tensor (``forward().C``).
        before: Its value before; the literals.
        after: Its value after.
    """

    module: str
    name: str
    before: Number
    after: Number


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
class NormEdit:
    """A norm over channels goes on counting those that are gone.

    Attributes:
        module: Path of the module.
        axis: The axis of the channels in its input, from the front.
        size: How many it counts.
        eps: Of an RMSNorm: the attribute that holds ε, rescaled with γ. Else empty: zeros are padded.
    """

    module: str
    axis: int
    size: int
    eps: str = ""


@dataclass(frozen=True, kw_only=True)
class BranchEdit:
    """A module that always puts out the same is replaced by that.

    Attributes:
        module: Path of the module.
        shape: Of the constant: 1 on every axis but that of the channels.
        nones: So many None follow it in a tuple; -1: it is the output itself.
    """

    module: str
    shape: tuple[int, ...]
    nones: int


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
    norms: tuple[NormEdit, ...] = ()
    branches: tuple[BranchEdit, ...] = ()

    def as_data(self) -> dict[str, Any]:
        """As what JSON can hold."""
        return {
            "slices": [
                {"name": e.name, "axis": e.axis, "size": e.size, "keep": list(e.keep)}
                for e in self.slices
            ],
            "attributes": [
                {
                    "module": e.module,
                    "name": e.name,
                    "before": e.before if isinstance(e.before, int) else list(e.before),
                    "after": e.after if isinstance(e.after, int) else list(e.after),
                }
                for e in self.attributes
            ],
            "columns": [
                {"name": e.name, "shape": list(e.shape), "keep": list(e.keep)} for e in self.columns
            ],
            "norms": [asdict(e) for e in self.norms],
            "branches": [
                {"module": e.module, "shape": list(e.shape), "nones": e.nones}
                for e in self.branches
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
                    before=_number(e["before"]),
                    after=_number(e["after"]),
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
            norms = tuple(
                NormEdit(
                    module=str(e["module"]),
                    axis=int(e["axis"]),
                    size=int(e["size"]),
                    eps=str(e["eps"]),
                )
                for e in data.get("norms", ())
            )
            branches = tuple(
                BranchEdit(
                    module=str(e["module"]),
                    shape=tuple(int(n) for n in e["shape"]),
                    nones=int(e["nones"]),
                )
                for e in data.get("branches", ())
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RequestError(f"these are not edits: {error!r}") from error
        for edit in slices:
            _check(edit.name, f"indices of axis {edit.axis}", edit.keep, edit.size)
        for column in columns:
            _check(column.name, "columns", column.keep, prod(column.shape))
        return cls(
            slices=slices,
            attributes=attributes,
            columns=columns,
            norms=norms,
            branches=branches,
        )


def _number(given: Any) -> Number:
    return tuple(int(v) for v in given) if isinstance(given, list | tuple) else int(given)


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
