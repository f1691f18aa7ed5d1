"""What a data loader yields, taken apart: what the model sees, and what the loss compares with."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from espalier._ground.example import Example, moved
from espalier.errors import RequestError

Split = Callable[[Any], tuple[Example, Any]]
"""From what the loader yields to (the model's input, the target)."""


class Pair(NamedTuple):
    """A batch, on the task's device: input of the model and target of the loss."""

    inputs: Example
    target: Any

    def to(self, device: torch.device, *, non_blocking: bool = False) -> "Pair":
        """The same on a device."""
        return Pair(*(moved(each, device, non_blocking=non_blocking) for each in self))

    def samples(self) -> int:
        """The length of the first axis of the target's first tensor, or else of the input's."""
        tensors = [t for t in tree_leaves((self.target, self.inputs)) if isinstance(t, Tensor)]
        return next((len(t) for t in tensors if t.dim()), 1)


def splitter(target: str | None) -> Split:
    """How batches are taken apart that are tuples, lists or mappings.

    Args:
        target: The key of a mapping's target; None: there is none, everything goes to the model.
    """

    def split(batch: Any) -> tuple[Example, Any]:
        if isinstance(batch, Mapping):
            named = dict(batch)
            if target is None:
                return named, None
            if target not in named:
                raise RequestError(
                    f"a batch has the keys {', '.join(map(str, named))} and no target {target!r}; name "
                    "the key by target=, or give target=None where the loss needs none"
                )
            wanted = named.pop(target)
            return named, wanted
        if target is None:
            return (batch if isinstance(batch, Tensor) else _whole(tuple(batch))), None
        if not isinstance(batch, tuple | list) or len(batch) < 2:
            got = (
                f"{type(batch).__name__} of {len(batch)}"
                if isinstance(batch, tuple | list)
                else (f"a {type(batch).__name__}")
            )
            raise RequestError(
                f"a batch is {got}, and has no target; let the loader yield (inputs …, target) or a "
                "mapping, give split=, or target=None where the loss needs none"
            )
        *inputs, wanted = batch
        return _whole(tuple(inputs)), wanted

    return split


def _whole(inputs: tuple[Any, ...]) -> Example:
    """One tensor or mapping stands for itself; anything else is positional arguments."""
    if len(inputs) == 1 and isinstance(inputs[0], Mapping):
        return dict(inputs[0])
    return inputs[0] if len(inputs) == 1 and isinstance(inputs[0], Tensor) else inputs
