"""The result: classes of coupled indices, grouped by the axes they touch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod

import numpy as np
import torch
from rich.table import Table
from torch import Tensor
from torch.export import ExportedProgram

from espalier.errors import RequestError, UnknownNameError, nearest
from espalier.graph._labels import Ids
from espalier.graph._norms import Norm
from espalier.graph._products import Product

Axis = tuple[str, int]
"""A parameter or buffer name and one of its axes."""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Indices of one axis of one parameter or buffer."""

    name: str
    axis: int
    indices: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One class of coupled indices: all of it goes, or nothing.

    Attributes:
        id: The class, as in :meth:`ChannelGraph.couplings`.
        producers: Slices that create the channel (filters, biases, BatchNorm's γ, β, statistics).
        consumers: Slices that read it.
    """

    id: int
    producers: tuple[Slice, ...]
    consumers: tuple[Slice, ...]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Units that touch the same axes: the channels of one residual stage, the heads of one layer.

    Attributes:
        producers: The axes that create the channels.
        consumers: The axes that read them.
        units: What can be removed one by one.
        frozen: Why none of them may be removed; empty when they may.
    """

    producers: tuple[Axis, ...]
    consumers: tuple[Axis, ...]
    units: tuple[Unit, ...]
    frozen: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """A place where channels pass through sizes that the program may have written as literals.

    Attributes:
        node: The operation's name in the exported graph.
        op: The ATen operation.
        module: Path of the module in whose ``forward`` it stands.
        classes: One array of classes for every labelled axis, or joint of axes, that appears.
    """

    node: str
    op: str
    module: str
    classes: tuple[Ids, ...]

    def sizes(self, gone: Ids) -> list[tuple[int, int]]:
        """Old and new size of every labelled axis when classes go, and of axes labelled jointly, together."""
        found: list[tuple[int, int]] = []
        for array in self.classes:
            alive = ~np.isin(array, gone)
            axes = range(array.ndim)
            left = [int(alive.any(axis=tuple(a for a in axes if a != at)).sum()) for at in axes]
            found += zip(array.shape, left, strict=True)
            runs = (slice(i, j + 1) for i in axes for j in axes if j > i)
            found += [(prod(array.shape[run]), prod(left[run])) for run in runs]
        return found

    def ragged(self, gone: Ids) -> Ids:
        """The classes among ``gone`` whose removal would leave a joint of axes not rectangular."""
        found = [np.zeros(0, dtype=np.int64)]
        for array in self.classes:
            alive = ~np.isin(array, gone)
            box = 1
            for axis in range(array.ndim):
                others = tuple(a for a in range(array.ndim) if a != axis)
                box *= int(alive.any(axis=others).sum())
            if box != int(alive.sum()):
                found.append(np.intersect1d(array, gone))
        return np.unique(np.concatenate(found))


@dataclass(frozen=True, kw_only=True, eq=False)
class ChannelGraph:
    """Which channels of which parameters live and die together.

    Attributes:
        classes: (name, axis) -> the class of every index, int64; -1 where the axis is no channel.
        frozen: Class -> why it may not be removed.
        producing: Does (name, axis) create channels (else it only reads them)?
        consuming: Does it read them?
        unknown: Operations not understood -> where the first stands. What they touch is frozen.
        program: The exported program that was interpreted.
        inputs: The example inputs: positional and by name.
        sites: Where channels pass through sizes that may be literals in the program.
        products: Products of two activations.
        norms: Modules whose statistics run over channels and go on counting those that are gone.
    """

    classes: Mapping[Axis, Ids]
    frozen: Mapping[int, tuple[str, ...]]
    producing: frozenset[Axis]
    consuming: frozenset[Axis]
    unknown: Mapping[str, str]
    program: ExportedProgram = field(repr=False)
    inputs: tuple[tuple[object, ...], dict[str, object]] = field(repr=False)
    sites: tuple[Place, ...] = field(repr=False)
    products: tuple[Product, ...] = field(default=(), repr=False)
    norms: tuple[Norm, ...] = field(default=(), repr=False)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The units, grouped by the axes they touch and by why they are frozen."""
        parts: dict[int, list[Slice]] = {}
        for (name, axis), ids in self.classes.items():
            # One stable sort for all classes of an axis; looking for each would be quadratic in
            # its width.
            order = np.argsort(ids, kind="stable")
            for one in np.split(order, np.flatnonzero(np.diff(ids[order])) + 1):
                if one.size and ids[one[0]] >= 0:
                    indices = tuple(one.tolist())
                    piece = Slice(name=name, axis=axis, indices=indices)
                    parts.setdefault(int(ids[one[0]]), []).append(piece)
        found: dict[tuple[object, ...], list[Unit]] = {}
        for key, slices in sorted(parts.items()):
            unit = Unit(
                id=key,
                producers=tuple(s for s in slices if (s.name, s.axis) in self.producing),
                consumers=tuple(s for s in slices if (s.name, s.axis) in self.consuming),
            )
            signature = (
                tuple((s.name, s.axis) for s in unit.producers),
                tuple((s.name, s.axis) for s in unit.consumers),
                self.frozen.get(key, ()),
            )
            found.setdefault(signature, []).append(unit)
        return tuple(
            Group(producers=p, consumers=c, units=tuple(units), frozen=f)  # type: ignore[arg-type]
            for (p, c, f), units in found.items()
        )

    @property
    def removable(self) -> tuple[Group, ...]:
        """The groups that are not frozen."""
        return tuple(g for g in self.groups if not g.frozen)

    def couplings(self, parameter: str, axis: int = 0) -> Tensor:
        """For every index of an axis, the class it belongs to: equal numbers share one choice.

        Args:
            parameter: Name of a parameter or buffer.
            axis: 0 for filters, 1 for input channels.

        Returns:
            int64 tensor, one entry per index; -1 where the index is no channel.

        Raises:
            UnknownNameError: No such parameter in the graph.
        """
        return torch.from_numpy(self._ids(parameter, axis).copy())

    def may_go(self, parameter: str, axis: int = 0) -> Tensor:
        """For every index of an axis: may it be removed? (bool tensor)."""
        ids = self._ids(parameter, axis).tolist()
        return torch.tensor([i >= 0 and i not in self.frozen for i in ids], dtype=torch.bool)

    def _ids(self, parameter: str, axis: int) -> Ids:
        found = self.classes.get((parameter, axis))
        if found is None:
            names = {name for name, _ in self.classes}
            if parameter in names:
                raise RequestError(f"{parameter}: has no axis {axis}")
            raise UnknownNameError(f"{parameter}: no such parameter; {nearest(parameter, names)}")
        return found

    def freeze(self, classes: Iterable[int], reason: str) -> "ChannelGraph":
        """The same graph with more classes frozen."""
        frozen = dict(self.frozen)
        for one in classes:
            frozen[one] = (*frozen.get(one, ()), reason)
        return replace(self, frozen=frozen)

    @torch.no_grad()
    def zero_(
        self, model: torch.nn.Module, classes: Iterable[int], *, consumers: bool = True
    ) -> None:
        """Zero the slices of some classes in place: their producers, and their consumers.

        Args:
            model: The module that was interpreted; modified.
            classes: Ids of units.
            consumers: Zero also the slices that read.
        """
        gone = np.fromiter(classes, dtype=np.int64)
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        for (name, axis), ids in self.classes.items():
            wanted = (name, axis) in (
                self.producing | self.consuming if consumers else self.producing
            )
            hit = np.flatnonzero(np.isin(ids, gone))
            if wanted and hit.size and not _is_variance(name) and name in tensors:
                index = torch.from_numpy(hit).to(tensors[name].device)
                tensors[name].index_fill_(axis, index, 0)

    def table(self) -> Table:
        """The groups, for people."""
        table = Table("group", "units", "created by", "read by", "frozen because")
        for number, group in enumerate(self.groups):
            reasons = "; ".join(group.frozen)
            table.add_row(
                str(number),
                str(len(group.units)),
                _axes(group.producers),
                _axes(group.consumers),
                reasons,
            )
        return table


def _is_variance(name: str) -> bool:
    # A variance of zero would blow the channel up to β ± |x|/√ε; γ = 0 is what silences it.
    return name.endswith("running_var")


def _axes(axes: Sequence[Axis]) -> str:
    shown = [f"{name}[{axis}]" for name, axis in axes[:4]]
    return ", ".join(shown) + (f" … {len(axes) - 4} more" if len(axes) > 4 else "")
