"""Products of two activations, such as attention's: how large they are, and which channels run along them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch

from espalier.graph._labels import Ids
from espalier.graph._value import Value

Side = tuple[Value, int]
"""One axis of an operand."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sides:
    """A product as the walk meets it: its multiply-accumulates, and the axes they run over."""

    macs: int
    sides: tuple[Side, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Product:
    r"""A product without a parameter: :math:`c \prod_a n_a` multiply-accumulates over the axes a.

    Attributes:
        macs: Multiply-accumulates of the dense model for the example, the whole batch.
        axes: For every axis that carries channels the class of each index; -1 where it stays.
    """

    macs: int
    axes: tuple[Ids, ...]


def products(
    node: torch.fx.Node, arguments: Mapping[str, Any], held: Mapping[str, str]
) -> Iterator[Sides]:
    """The products of one call in which no parameter takes part as it is.

    Args:
        node: The call.
        arguments: By the names of its schema.
        held: Placeholder -> parameter or buffer.
    """
    name = str(node.target).removeprefix("aten.").partition(".")[0]
    values = [v for v in arguments.values() if isinstance(v, Value)]
    operands = [n for n in node.args if isinstance(n, torch.fx.Node)]
    if name in ("addmm", "baddbmm"):
        values, operands = values[1:], operands[1:]
    # A weight, seen as it is stored, has costs of its own; one that is made anew has none.
    if any(_stored(n) in held for n in operands[:2]):
        return
    if name in ("mm", "bmm", "matmul", "addmm", "baddbmm"):
        yield _matmul(*values[:2])
    elif name == "linear":
        x, w = values[:2]
        yield _over([*((x, d) for d in range(x.rank)), (w, 0)])
    elif name == "einsum":
        yield _einsum(arguments)
    elif "scaled_dot_product" in name:
        q, k, v = values[:3]
        scores = [*((q, d) for d in range(q.rank - 1)), (k, k.rank - 2)]
        yield _over([*scores, (q, q.rank - 1)])
        yield _over([*scores, (v, v.rank - 1)])
    elif name.startswith("conv"):
        x, w = values[:2]
        transposed = arguments.get("transposed", "transpose" in name)
        # Every weight is used once at each place of the output (of the input, transposed).
        shape = x.shape if transposed else tuple(int(s) for s in node.meta["val"].shape)
        places = prod(shape[x.rank - w.rank + 2 :]) * prod(shape[: x.rank - w.rank + 1])
        yield Sides(macs=places * prod(w.shape), sides=((w, 0), (w, 1)))


def resolved(found: Sides, class_of: Ids) -> Product:
    """With classes in place of labels, an array of them by label."""
    axes = [ids for side in found.sides if (ids := _along(*side, class_of)) is not None]
    return Product(macs=found.macs, axes=tuple(axes))


def _along(value: Value, dim: int, class_of: Ids) -> Ids | None:
    """The class of every index; -1 where several meet, as of heads that lose a part of their width."""
    factor = value.factor(dim)
    if factor is None:
        return None
    rows = np.moveaxis(class_of[factor.labels], factor.dims.index(dim), 0)
    rows = rows.reshape(len(rows), -1)
    return np.where((rows == rows[:, :1]).all(1), rows[:, 0], -1)


def _over(sides: list[Side]) -> Sides:
    return Sides(macs=prod(value.shape[dim] for value, dim in sides), sides=tuple(sides))


def _matmul(x: Value, y: Value) -> Sides:
    sides: list[Side] = [(x, x.rank - 1)]
    if x.rank > 1:
        sides.append((x, x.rank - 2))
    if y.rank > 1:
        sides.append((y, y.rank - 1))
    for back in range(3, max(x.rank, y.rank) + 1):
        mine = x.rank >= back and x.shape[-back] > 1
        sides.append((x, x.rank - back) if mine or y.rank < back else (y, y.rank - back))
    return _over(sides)


def _einsum(arguments: Mapping[str, Any]) -> Sides:
    operands: list[Value] = list(arguments["tensors"])
    terms = arguments["equation"].replace(" ", "").partition("->")[0].split(",")
    found: dict[str, Side] = {}
    for value, term in zip(operands, terms, strict=True):
        before, dots, after = term.partition("...")
        spread = value.rank - len(before) - len(after) if dots else 0
        # Axes under the dots are matched from the right, so they are named from there.
        middle = [f"...{spread - i}" for i in range(spread)]
        for dim, letter in enumerate([*before, *middle, *after]):
            if letter not in found or found[letter][0].shape[found[letter][1]] == 1:
                found[letter] = (value, dim)
    return _over(list(found.values()))


def _stored(node: torch.fx.Node) -> str:
    """The placeholder of which a node is a view, or the node itself."""
    while isinstance(node.target, torch._ops.OpOverload) or node.op == "call_function":
        first = next((a for a in node.args if isinstance(a, torch.fx.Node)), None)
        word = str(node.target).removeprefix("aten.").partition(".")[0]
        if first is None or not (word in _VIEWS or "getitem" in str(node.target)):
            break
        node = first
    return node.name


_VIEWS = frozenset(
    "t transpose permute view reshape _unsafe_view expand slice select split split_with_sizes chunk "
    "unbind squeeze unsqueeze alias detach numpy_T flatten unflatten".split()
)
