"""One batch of inputs, as ``model.forward`` takes it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from espalier.errors import RequestError

Example = Tensor | tuple[Any, ...] | list[Any] | Mapping[str, Any]
"""A tensor; the positional arguments; or the keyword arguments of ``forward``."""


def arguments(example: Example) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments.

    >>> arguments({"x": 1})
    ((), {'x': 1})
    """
    if isinstance(example, Tensor):
        return (example,), {}
    if isinstance(example, Mapping):
        return (), dict(example)
    return tuple(example), {}


def call(model: nn.Module, example: Example) -> Any:
    """``model`` on one batch."""
    args, kwargs = arguments(example)
    return model(*args, **kwargs)


def moved(value: Any, device: torch.device, *, non_blocking: bool = False) -> Any:
    """The same on a device: every tensor in it, at whatever depth of tuples, lists and dicts.

    A mapping of another kind (a tokenizer's, say) becomes a dict.

    >>> moved({"x": torch.ones(2)}, torch.device("meta"))["x"].device
    device(type='meta')
    """
    value = dict(value) if isinstance(value, Mapping) else value
    return tree_map_only(Tensor, lambda one: one.to(device, non_blocking=non_blocking), value)


def repeated(example: Example, count: int) -> Example:
    """A batch of ``count`` samples: those of every tensor, along its first axis, over and over.

    >>> repeated({"x": torch.tensor([1, 2])}, 3)
    {'x': tensor([1, 2, 1])}

    Raises:
        RequestError: A tensor without samples.
    """

    def of(one: Tensor) -> Tensor:
        if not one.dim() or not len(one):
            raise RequestError(
                f"a tensor of shape {tuple(one.shape)} has no samples; give at least one"
            )
        return one[torch.arange(count, device=one.device) % len(one)]

    value = dict(example) if isinstance(example, Mapping) else example
    found: Example = tree_map_only(Tensor, of, value)
    return found


def one_tensor(example: Example, purpose: str) -> Tensor:
    """The single input tensor of a model that takes one.

    Args:
        example: One batch.
        purpose: What needs it, for the message.

    Raises:
        RequestError: The model takes more, or takes it by name.
    """
    if isinstance(example, tuple | list) and len(example) == 1:
        (example,) = example
    if not isinstance(example, Tensor):
        got = (
            f"the keyword arguments {', '.join(map(str, example))}"
            if isinstance(example, Mapping)
            else f"{len(example)} arguments"
        )
        raise RequestError(
            f"{purpose} takes models of one input tensor, and this one takes {got}; "
            "wrap it in a module whose forward takes one tensor"
        )
    return example
