"""One walk over the exported graph: every node's tensors get their labels."""

import operator
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from espalier.graph._constants import everywhere, uniform_slices
from espalier.graph._context import Context
from espalier.graph._labels import SILENT, Ids, Labels
from espalier.graph._products import Sides, products
from espalier.graph._value import Factor, Value, canonical
from espalier.graph.rules import rule_for
from espalier.graph.rules._elementwise import is_tensor_node, opaque

OUTPUT = "the model's output"
RANDOM = ("rand", "randn", "randint", "bernoulli", "normal", "multinomial", "randperm")


@dataclass(frozen=True, kw_only=True, eq=False)
class Walk:
    """What was found.

    Attributes:
        context: Labels, reads, sites and operations not understood.
        axes: (parameter or buffer, axis) -> its labels.
        unused: Parameters and buffers that no operation reads.
        products: Products of two activations.
    """

    context: Context
    axes: dict[tuple[str, int], Ids]
    unused: frozenset[str]
    products: tuple[Sides, ...]


def walk(
    program: ExportedProgram,
    tensors: Mapping[str, Tensor] | None = None,
    inputs: tuple[Tensor, ...] = (),
    norm_axes: Mapping[str, int] | None = None,
) -> Walk:
    """Interpret a program.

    Args:
        program: From ``torch.export``, decomposed to ATen.
        tensors: Parameters and buffers by name. Given, the program is also run, to follow which
            channels are constant, and the places where channels are read are noted.
        inputs: With ``tensors``: the user inputs, flattened.
        norm_axes: Of :func:`~espalier.graph._norms.norm_axes`.
    """
    return _Walker(program, tensors, inputs, norm_axes or {}).run()


class _Walker:
    def __init__(
        self,
        program: ExportedProgram,
        tensors: Mapping[str, Tensor] | None,
        inputs: tuple[Tensor, ...],
        norm_axes: Mapping[str, int],
    ) -> None:
        self._graph = program.graph_module.graph
        self._constants = program.constants
        self._tensors = tensors
        self._inputs = list(inputs)
        signature = program.graph_signature
        held = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self._lifted = dict(signature.inputs_to_lifted_tensor_constants)
        self._held = held
        follow = tensors is not None
        self.context = Context(labels=Labels(), follow=follow, names=held, norm_axes=norm_axes)
        self._env: dict[torch.fx.Node, Any] = {}
        self._axes: dict[tuple[str, int], Ids] = {}
        self._unused: set[str] = set()
        self._products: list[Sides] = []

    def run(self) -> Walk:
        last = self._last_uses()
        for node in self._graph.nodes:
            if node.op == "placeholder":
                self._env[node] = self._placeholder(node)
            elif node.op == "call_function":
                self._env[node] = self._call(node)
                self.context.remember(self._env[node])
            elif node.op == "output":
                for value in _values(torch.fx.node.map_arg(node.args, self._look_up)):
                    self.context.labels.freeze(value.all_labels(), OUTPUT)
            # With values followed, this frees a tensor after its last use; the labels live on
            # elsewhere.
            for used in last.get(node, ()):
                del self._env[used]
        self._make_rectangular()
        return Walk(
            context=self.context,
            axes=self._axes,
            unused=frozenset(self._unused),
            products=tuple(self._products),
        )

    def _make_rectangular(self) -> None:
        """An axis split in two, and never told apart since, shrinks in its inner part alone."""
        labels = self.context.labels
        for site in self.context.sites:
            for value in site.values:
                for factor in canonical(labels, value).factors:
                    ids = factor.labels
                    while ids.ndim > 1:
                        ids = labels.unify_along(ids, 0)

    def _last_uses(self) -> dict[torch.fx.Node, list[torch.fx.Node]]:
        last: dict[torch.fx.Node, torch.fx.Node] = {}
        for node in self._graph.nodes:
            for used in node.all_input_nodes:
                last[used] = node
        ends: dict[torch.fx.Node, list[torch.fx.Node]] = {}
        for used, node in last.items():
            ends.setdefault(node, []).append(used)
        return ends

    def _look_up(self, node: torch.fx.Node) -> Any:
        return self._env.get(node)

    def _placeholder(self, node: torch.fx.Node) -> Any:
        found = node.meta.get("val")
        if not isinstance(found, Tensor):
            return None
        shape = tuple(int(s) for s in found.shape)
        name = self._held.get(node.name)
        if name is not None and found.is_floating_point():
            data = None if self._tensors is None else self._tensors[name].detach()
            if not node.users:
                self._unused.add(name)
            return self._parameter(name, shape, data)
        if name is not None or node.name in self._lifted:
            return Value(shape=shape, static=True, data=self._constant(node.name))
        data = self._inputs.pop(0) if self.context.follow else None
        return Value(shape=shape, data=data)

    def _constant(self, placeholder: str) -> Tensor | None:
        """A tensor that has no channels: an integer buffer, a literal."""
        if self._tensors is None:
            return None
        name = self._held.get(placeholder)
        found = self._tensors[name] if name else self._constants.get(self._lifted[placeholder])
        return found if isinstance(found, Tensor) else None

    def _parameter(self, name: str, shape: tuple[int, ...], data: Tensor | None) -> Value:
        factors = []
        for axis, size in enumerate(shape):
            labels = self._axes.get((name, axis))
            if labels is None:
                labels = self.context.labels.fresh(size)
                self._axes[name, axis] = labels
            # It broadcasts against anything: labelled, it would tie channels that only share a
            # scalar.
            if size == 1:
                self.context.labels.freeze(labels, SILENT)
            else:
                const = uniform_slices(data, axis, size)
                factors.append(Factor(dims=(axis,), labels=labels, const=const))
        return Value(shape=shape, factors=tuple(factors), static=True, data=data)

    def _call(self, node: torch.fx.Node) -> Any:
        self.context.node = node
        arguments: Any = torch.fx.node.map_arg(node.args, self._look_up)
        keywords: Any = torch.fx.node.map_arg(node.kwargs, self._look_up)
        if node.target is operator.getitem:
            return arguments[0][arguments[1]] if isinstance(arguments[0], tuple) else arguments[0]
        data = self._concrete(node, arguments, keywords)
        if not is_tensor_node(node.meta.get("val")):
            return data if data is not None else node.meta.get("val")
        self.context.enter({n: self._env.get(n) for n in node.all_input_nodes})
        result = self._apply(node, arguments, keywords)
        static = all(v.static for v in _values((arguments, keywords))) and not any(
            word in str(node.target) for word in RANDOM
        )
        if isinstance(result, tuple):
            many = data if isinstance(data, (tuple, list)) else [None] * len(result)
            return tuple(_finished(v, d, static) for v, d in zip(result, many, strict=False))
        return _finished(result, data, static)

    def _apply(self, node: torch.fx.Node, arguments: Any, keywords: Any) -> Any:
        bound = _bind(node.target, arguments, keywords)
        context = self.context
        context.noted.clear()
        since = context.labels.marks
        try:
            result = rule_for(node.target)(context, bound)
            self._products += products(node, bound, self._held)
            # What a rule neither passes on nor notes as read must stay as it is.
            context.labels.freeze_lost(
                [v.all_labels() for v in _values(bound)],
                [*(v.all_labels() for v in _values(result)), *context.noted],
                context.reason("ends there"),
                since,
            )
            return result
        except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
            # A call a rule was not written for must not cost more than its labels.
            context.unknown[context.op] = f"{context.module}: {error!r}"
            return opaque(context, bound)

    def _concrete(self, node: torch.fx.Node, arguments: Any, keywords: Any) -> Any:
        if not self.context.follow:
            return None
        # The node itself is run, so rules need not repeat what an operation computes.
        if any(value.data is None for value in _values((arguments, keywords))):
            return None
        plain = torch.utils._pytree.tree_map_only(Value, lambda v: v.data, (arguments, keywords))
        try:
            with torch.no_grad():
                return node.target(*plain[0], **plain[1])  # type: ignore[operator]
        except Exception:  # an operation for the exporter alone: what depends on it is not known
            return None


def _bind(target: Any, arguments: Any, keywords: Any) -> dict[str, Any]:
    if not isinstance(target, torch._ops.OpOverload):
        return {**{str(i): v for i, v in enumerate(arguments)}, **keywords}
    bound = {}
    for i, declared in enumerate(target._schema.arguments):
        if i < len(arguments):
            bound[declared.name] = arguments[i]
        elif declared.name in keywords:
            bound[declared.name] = keywords[declared.name]
        elif declared.has_default_value():
            bound[declared.name] = declared.default_value
    return bound


def _values(tree: Any) -> list[Value]:
    return [v for v in torch.utils._pytree.tree_leaves(tree) if isinstance(v, Value)]


def _finished(value: Value, data: Any, static: bool) -> Value:
    """The result with its concrete tensor, its constants read from it."""
    if not isinstance(data, Tensor):
        return replace(value, static=static, data=None)
    factors = tuple(
        # A rule says that a constant may be known, the run what it is.
        replace(f, const=np.where(np.isnan(f.const), np.nan, everywhere(data, f.dims)))
        if not np.isnan(f.const).all()
        else f
        for f in value.factors
    )
    return replace(value, factors=factors, static=static, data=data)
