"""What a rule may see and note while one node of the graph is interpreted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from espalier.graph._align import Combine, Reduced, align, contract, everything
from espalier.graph._labels import Ids, Labels
from espalier.graph._value import Constants, Value, canonical, fix

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
        return f"{why} ({self.op} in {self.module or 'the model'})"

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

    def site(self, *values: Value) -> None:
        """Note that sizes of labelled axes may be literals here."""
        held = tuple(v for v in values if v.factors)
        if held:
            self.sites.append(
                Site(node=self.node.name, op=self.op, module=self.module, values=held)
            )


def module_of(node: torch.fx.Node) -> str:
    """Path of the innermost module in whose ``forward`` a node stands; empty for the model."""
    stack = node.meta.get("nn_module_stack") or {}
    path = ""
    for entry in stack.values():
        path = str(entry[0] if isinstance(entry, tuple) else entry)
    # The exporter writes calls of one module more than once as ``name@1``.
    return path.removeprefix("L['self'].").removeprefix("L['self']").split("@")[0]


def place(value: Value, dim: int, rank: int) -> Value:
    """A vector as a tensor of ``rank`` axes whose only axis beyond size 1 is ``dim``."""
    shape = tuple(value.shape[0] if d == dim else 1 for d in range(rank))
    return value.renamed(shape, {0: dim})
