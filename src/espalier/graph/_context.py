"""What a rule may see and note while one node of the graph is interpreted."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from espalier.graph._align import Combine, Reduced, align, contract, everything
from espalier.graph._labels import Ids, Labels
from espalier.graph._value import Constants, Factor, Value, canonical, fix

Arguments = Mapping[str, Any]
"""The arguments of an ATen call by the names of its schema, tensors replaced by values."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Read:
    """A place where channels are summed away into other channels, with the weights in place.

    Attributes:
        node: The operation.
        inputs: Labels of the channels read, shape (I,).
        const: What they equal where that is known, shape (I,).
        outputs: Labels of the channels written, shape (O,); None: something that stays.
        nonzero: Does output o depend on input i? shape (O, I).
        weight: The weight summed over kernel positions, shape (O, I), where the contribution of a
            constant input is that constant times it (no zero padding); else None.
        bias: The tensor that can take the contribution, and its sign there: the operation's own
            bias (+1), or the running mean of the batch norm that alone follows (-1).
    """

    node: str
    inputs: Ids
    const: Constants
    outputs: Ids | None
    nonzero: NDArray[np.bool_]
    weight: Callable[[], Tensor] | None = None
    bias: tuple[str, int] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Site:
    """A place where labels pass through sizes that the program may have written as literals.

    Attributes:
        node: The operation's name in the exported graph.
        op: The ATen operation.
        module: Path of the module in whose ``forward`` it stands.
        values: The tensors (in and out) whose sizes appear there.
    """

    node: str
    op: str
    module: str
    values: tuple[Value, ...]


@dataclass(kw_only=True)
class Context:
    """The labels, the notes taken so far, and the node at hand."""

    labels: Labels
    follow: bool
    names: dict[str, str]
    reads: list[Read] = field(default_factory=list)
    sites: list[Site] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)
    noted: list[Ids] = field(default_factory=list)
    norm_axes: Mapping[str, int] = field(default_factory=dict)
    norms: dict[str, list[Ids]] = field(default_factory=dict)
    entry: Value | None = None
    values: dict[str, Value] = field(default_factory=dict)
    node: torch.fx.Node = field(init=False)

    @property
    def op(self) -> str:
        """The operation, as ``aten.conv2d``."""
        return str(self.node.target).removesuffix(".default")

    @property
    def module(self) -> str:
        """Path of the module in whose ``forward`` the node stands."""
        return module_of(self.node)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The sizes of what the node returns."""
        found = self.node.meta["val"]
        many = found if isinstance(found, (tuple, list)) else [found]
        return [tuple(int(s) for s in t.shape) if isinstance(t, Tensor) else () for t in many]

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the (first) tensor the node returns."""
        return self.shapes[0]

    def reason(self, why: str) -> str:
        """``why``, with the place."""
        # What a function says outside the module's own code (a scan) is named.
        called = re.findall(r", in (\w+)", str(self.node.meta.get("stack_trace") or ""))
        inner = f"{called[-1]} of " if called and called[-1] != "forward" else ""
        return f"{why} ({self.op} in {inner}{self.module or 'the model'})"

    def canonical(self, value: Value) -> Value:
        """See :func:`espalier.graph._value.canonical`."""
        return canonical(self.labels, value)

    def fix(self, value: Value, dims: Sequence[int], why: str) -> Value:
        """See :func:`espalier.graph._value.fix`."""
        return fix(self.labels, value, dims, self.reason(why))

    def isolate(self, value: Value, dim: int, why: str) -> Value:
        """Leave axis ``dim`` with at most a factor of its own."""
        value = canonical(self.labels, value)
        factor = value.factor(dim)
        others = [] if factor is None else [d for d in factor.dims if d != dim]
        return self.fix(value, others, why)

    def align(
        self,
        operands: Sequence[Value],
        shape: tuple[int, ...] | None = None,
        combine: Combine = everything,
        why: str = "meets an axis that is no channel",
    ) -> Value:
        """See :func:`espalier.graph._align.align`."""
        return align(self.labels, operands, shape or self.shape, self.reason(why), combine)

    def contract(self, operands: Sequence[tuple[Value, str]], out: str) -> Value:
        """A sum of products; the summed channels are noted as read."""
        why = self.reason("meets an axis that is no channel")
        value, reduced = contract(self.labels, operands, out, why)
        for part in reduced:
            self.read_whole(part)
        return value

    def read_whole(self, part: Reduced) -> None:
        """Note that channels flow into something that stays, unless they are zero."""
        self.noted.append(part.labels)
        if self.follow:
            every = np.ones((1, len(part.labels)), dtype=np.bool_)
            self.reads.append(
                Read(
                    node=self.node.name,
                    inputs=part.labels,
                    const=part.const,
                    outputs=None,
                    nonzero=every,
                )
            )

    def remember(self, found: object) -> None:
        """Keep what is known of the node's result, but for the numbers."""
        if self.follow and isinstance(found, Value):
            self.values[self.node.name] = replace(found, data=None)

    def enter(self, inputs: Mapping[torch.fx.Node, object]) -> None:
        """Note what comes into a module whose statistics may go on counting what is removed."""
        here = self.module
        if here in self.norm_axes:
            for node, value in inputs.items():
                own = module_of(node) == here or node.name in self.names
                if isinstance(value, Value) and not own:
                    self.entry = value
                    return

    def count(self, factor: Factor, *, own: bool = False) -> bool:
        """Channels that a statistic runs over: may they go, for the module goes on counting them?

        They are noted as read where they enter the module, and must be zero there; but what a statistic of
        the module's own weights is to count of those that go is known.

        Args:
            factor: Of the axis that the statistic runs over.
            own: Is it one of its own weights?
        """
        axis = self.norm_axes.get(self.module)
        if axis is not None and own:
            return self._count_weight(factor)
        entry = None if axis is None or self.entry is None else self.entry.factor(axis)
        if entry is None or entry.labels.shape != factor.labels.shape or len(entry.dims) > 1:
            return False
        if (self.labels.find(entry.labels) != self.labels.find(factor.labels)).any():
            return False
        calls = self.norms.setdefault(self.module, [])
        if calls and calls[0].shape != entry.labels.shape:  # one module, two widths: it counts one
            return False
        calls.append(entry.labels)
        self.read_whole(Reduced(labels=entry.labels, const=entry.const))
        self.noted.append(factor.labels)
        return True

    def _count_weight(self, factor: Factor) -> bool:
        """Of a weight whose axis of inputs and kernel positions are one: an input is a run of its label."""
        labels = factor.labels.reshape(-1)
        first = np.flatnonzero(np.diff(labels, prepend=-1))
        if len(factor.dims) > 1 or len(np.unique(labels)) != len(first):
            return False
        self.norms.setdefault(self.module, []).append(labels[first])
        self.noted.append(labels)
        return True

    def site(self, *values: Value) -> None:
        """Note that sizes of labelled axes may be literals here."""
        held = tuple(v for v in values if v.factors)
        if held:
            self.sites.append(
                Site(node=self.node.name, op=self.op, module=self.module, values=held)
            )


def module_of(node: torch.fx.Node) -> str:
    """Path of the innermost module in whose ``forward`` a node stands; empty for the model."""
    # The exporter writes calls of one module more than once as ``name@1``.
    return re.sub(r"@\d+", "", next(reversed(modules_of(node)), ""))


def modules_of(node: torch.fx.Node) -> list[str]:
    """Paths of the modules in whose ``forward`` a node stands, the outermost first."""
    entries = (node.meta.get("nn_module_stack") or {}).values()
    paths = (str(entry[0] if isinstance(entry, tuple) else entry) for entry in entries)
    return [path.removeprefix("L['self'].").removeprefix("L['self']") for path in paths]


def place(value: Value, dim: int, rank: int) -> Value:
    """A vector as a tensor of ``rank`` axes whose only axis beyond size 1 is ``dim``."""
    shape = tuple(value.shape[0] if d == dim else 1 for d in range(rank))
    return value.renamed(shape, {0: dim})
