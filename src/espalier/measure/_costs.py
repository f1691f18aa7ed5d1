"""What each weight costs: multiply-accumulates (MACs) for one sample.

Counted from the operators that really run, not from the modules that exist: a tensor is recognised
by its storage, so that functional calls, chunks of a fused projection and parameters used several
times are seen too. What is *not* seen is said.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry

from espalier._ground.example import Example, arguments
from espalier.errors import ShapeError, UnknownNameError, nearest
from espalier.measure._kinds import LayerKind, layer_kinds


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """What one parameter costs when it is dense.

    Attributes:
        macs: multiply-accumulates for one sample.
        kind: of the layer.
        numel: how many weights it has.
    """

    macs: int
    kind: LayerKind
    numel: int

    @property
    def macs_per_weight(self) -> float:
        """How often each weight is used for one sample; 1 in a plain linear layer."""
        return self.macs / self.numel if self.numel else 0.0


@dataclass(frozen=True, kw_only=True)
class LayerCosts(Mapping[str, LayerCost]):
    """The costs of a model, by parameter name.

    Attributes:
        costs: of every weight (no norms, no biases), by name.
        between_activations: MACs of products without a parameter: attention's scores and sums.
        unseen: weights of layers that took part in no product that could be attributed to them.
        warnings: sentences about both, empty when all was seen.
    """

    costs: Mapping[str, LayerCost]
    between_activations: int = 0
    unseen: tuple[str, ...] = field(default=())

    def __getitem__(self, name: str) -> LayerCost:
        return self.costs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.costs)

    def __len__(self) -> int:
        return len(self.costs)

    @property
    def total(self) -> int:
        """All MACs of one sample: of weights and between activations."""
        return sum(cost.macs for cost in self.costs.values()) + self.between_activations

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the costs leave out or cannot save, a sentence each."""
        said = []
        if self.unseen:
            said.append(
                f"no product of {', '.join(self.unseen)} was seen, so their MACs count as 0: the "
                "layer did not run, or its weight is made anew in forward (parametrisation, "
                "weight norm, recurrent kernel)"
            )
        if self.between_activations:
            said.append(
                f"{self.between_activations:,} MACs are products of two activations (attention): zeros "
                "in weights save none of them, heads that are removed do"
            )
        return tuple(said)

    def after(self, nonzeros: Mapping[str, int]) -> int:
        """MACs left when so many weights of each named parameter stay; the others stay dense.

        Every weight of a parameter is taken to be used equally often.

        Args:
            nonzeros: weights left, by parameter name.

        Raises:
            UnknownNameError: a name that is no weight of the model.
        """
        for name in nonzeros:
            if name not in self.costs:
                raise UnknownNameError(f"no cost of {name!r}; {nearest(name, self.costs)}")
        saved = 0
        for name, left in nonzeros.items():
            cost = self.costs[name]
            saved += cost.macs - (cost.macs * left // cost.numel if cost.numel else 0)
        return self.total - saved


def layer_costs(model: nn.Module, example_input: Example) -> LayerCosts:
    r"""Dense multiply-accumulates of every weight for ONE sample.

    .. math:: \text{MACs}(W) = \text{numel}(W) \cdot \text{uses of each weight per sample}

    The model runs once in evaluation mode, without gradients, on the first sample of the batch;
    training flags and random state are put back. Padding is counted as if it were data.

    Args:
        model: any module, on any device, "meta" included.
        example_input: one batch, samples along the first axis; only the first is used. A tuple or
            list holds positional and a mapping keyword arguments. Moved to the model's device.

    Returns:
        The costs by parameter name, with what could not be seen.

    Raises:
        ShapeError: the model refuses the example.

    Example:
        >>> costs = layer_costs(nn.Conv2d(1, 20, 5), torch.zeros(64, 1, 28, 28))
        >>> costs["weight"].macs, costs["weight"].macs_per_weight
        (288000, 576.0)
    """
    counter = _Counter(model)
    args, kwargs = _one_sample(example_input, _device(model))
    with _undisturbed(model), counter:
        try:
            model(*args, **kwargs)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            shapes = [tuple(t.shape) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
            raise ShapeError(
                f"the model refuses example_input, cut to one sample of shape {shapes}: {error}; "
                "give one batch as the model takes it, samples along the first axis"
            ) from error
    kinds = layer_kinds(model)
    costs = {
        name: LayerCost(macs=counter.macs.get(name, 0), kind=kinds[name], numel=parameter.numel())
        for name, parameter in model.named_parameters()
        if kinds[name] not in (LayerKind.NORM, LayerKind.BIAS)
    }
    unseen = tuple(
        name
        for name, cost in costs.items()
        if cost.macs == 0 and (cost.kind.is_conv or cost.kind.is_linear or cost.kind in _MAYBE)
    )
    return LayerCosts(costs=costs, between_activations=counter.between, unseen=unseen)


_MAYBE = (LayerKind.RECURRENT,)


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the products each parameter takes part in; parameters are known by their storage."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs: dict[str, int] = {}
        self.between = 0
        self._spans: dict[int, list[tuple[int, int, str]]] = {}
        for name, p in model.named_parameters():
            start = int(p.storage_offset())
            span = (start, start + p.numel(), name)
            self._spans.setdefault(_storage(p), []).append(span)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            # PyTorch counts a multiply-accumulate as two operations.
            macs = formula(*args, **(kwargs or {}), out_val=out) // 2
            owned = [name for t in tree_leaves(args) if (name := self._owner(t)) is not None]
            # The weight, if there is one. A bias is added, not multiplied.
            multiplied = [name for name in owned if not self._is_added(func, args, name)]
            # Where two parameters meet, the later operand is taken to be the weight.
            if multiplied:
                self.macs[multiplied[-1]] = self.macs.get(multiplied[-1], 0) + macs
            else:
                self.between += macs
        return out

    def _owner(self, tensor: object) -> str | None:
        if not isinstance(tensor, Tensor):
            return None
        for start, end, name in self._spans.get(_storage(tensor), ()):
            # A part of a fused projection is a view that begins inside its parameter.
            if start <= tensor.storage_offset() < end:
                return name
        return None

    def _is_added(self, func: Any, args: Any, name: str) -> bool:
        packet = func.overloadpacket
        added = {torch.ops.aten.addmm: 0, torch.ops.aten.baddbmm: 0, torch.ops.aten.convolution: 2}
        place = added.get(packet)
        return place is not None and self._owner(args[place]) == name


def _storage(tensor: Tensor) -> int:
    """The identity of a tensor's storage: equal for views, distinct even on the meta device."""
    return int(tensor.untyped_storage()._cdata)


def _device(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _one_sample(example: Example, device: torch.device) -> tuple[tuple[Any, ...], dict[str, Any]]:
    def cut(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return (value[:1] if value.dim() else value).to(device)

    args, kwargs = tree_map(cut, arguments(example))
    return args, kwargs


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, no gradients, only operators whose products can be seen; then as before."""
    training = {module: module.training for module in model.modules()}
    fast_attention = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.random.fork_rng(devices=[]))
        # As one fused operator, attention would not show which products it consists of.
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        torch.backends.mha.set_fastpath_enabled(False)
        model.eval()
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast_attention)
            for module, flag in training.items():
                module.training = flag
