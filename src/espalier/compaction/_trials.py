"""The batches of a proof, and what the masked model makes of them."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from espalier._ground.example import Example, arguments
from espalier._ground.modes import undisturbed
from espalier._ground.sizes import Call, other_sizes
from espalier.errors import RequestError

Outputs = tuple[Tensor, ...]
OF_A_FAMILY = 2
"""Other sizes tried for every axis."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trials:
    """What two models are compared on.

    Attributes:
        calls: The example, then batches drawn at random, first those of its own size.
        expected: What the masked model makes of each, where that is known already.
        other_sizes: How many of them are of another size.
        trains: Does the masked model run in training mode?
    """

    calls: tuple[Call, ...]
    expected: tuple[Outputs, ...]
    other_sizes: int
    trains: bool


def drawn(
    masked: nn.Module,
    example: Example,
    *,
    random_batches: int = 3,
    sizes: bool = True,
    seed: int = 0,
) -> Trials:
    """Draw the batches of a proof: those that the masked model takes.

    Args:
        masked: The model with zeros in place. Its modes and buffers are restored.
        example: A batch.
        random_batches: Of the example's size.
        sizes: Also other ones, and one run in training mode?
        seed: Of the numbers drawn.

    Raises:
        RequestError: It does not run on the example.
    """
    generator = torch.Generator().manual_seed(seed)
    own = arguments(example)
    calls, expected = [own], [expected_outputs(masked, own)]
    for _ in range(random_batches):
        call = _like(own, generator)
        found = _taken(masked, call)
        if found is not None:
            calls.append(call)
            expected.append(found)
    before = len(calls)
    # Elsewhere than on the CPU an index beyond its table ends the process, not the call.
    host = masked if not sizes or _on_host(masked) else copy.deepcopy(masked).cpu()
    for family in other_sizes(own) if sizes else ():
        for call, found in islice(_accepted(host, family, generator), OF_A_FAMILY):
            calls.append(call)
            # These are the longest runs of a proof: what one has given is not asked for again.
            expected.append(found if host is masked else expected_outputs(masked, call))
    return Trials(
        calls=tuple(calls),
        expected=tuple(expected),
        other_sizes=len(calls) - before,
        trains=sizes and not untrainable(masked, own),
    )


def _accepted(
    host: nn.Module, family: list[Call], generator: torch.Generator
) -> Iterator[tuple[Call, Outputs]]:
    for resized in family:
        call = _like(resized, generator)
        found = _taken(host, _moved(call))
        if found is not None:
            yield call, found


def _on_host(model: nn.Module) -> bool:
    return all(t.device.type == "cpu" for t in (*model.parameters(), *model.buffers()))


def _moved(call: Call) -> Call:
    found: Call = pytree.tree_map_only(Tensor, lambda t: t.cpu(), call)
    return found


def outputs(model: nn.Module, call: Call) -> Outputs:
    """Every tensor that a model returns, in evaluation mode; whatever it raises is raised."""
    args, kwargs = call
    with undisturbed(model):
        found = model(*args, **kwargs)
    if hasattr(found, "to_tuple"):
        found = found.to_tuple()
    leaves = pytree.tree_leaves(found)
    return tuple(t for t in leaves if isinstance(t, Tensor) and t.dtype != torch.bool)


def expected_outputs(masked: nn.Module, call: Call) -> Outputs:
    """The same of the model that is not in question.

    Raises:
        RequestError: It does not run.
    """
    try:
        return outputs(masked, call)
    except Exception as error:
        raise RequestError(
            f"{type(masked).__name__} does not run on a batch given ({brief(error)}); "
            "give batches as its forward takes them"
        ) from error


def _taken(model: nn.Module, call: Call) -> Outputs | None:
    try:
        return outputs(model, call)
    except Exception:  # a size that this model does not take
        return None


def untrainable(model: nn.Module, call: Call) -> str:
    """Why a model does not run in training mode; empty if it does. It and the random state stay."""
    args, kwargs = call
    with undisturbed(model), torch.random.fork_rng():
        try:
            model.train()(*args, **kwargs)
        except Exception as error:  # whatever the model's own code raises
            return brief(error)
    return ""


def brief(error: Exception) -> str:
    """The kind of an error and the first line of what it says.

    >>> brief(ValueError("no"))
    'ValueError: no'
    """
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"


def _like(example: Call, generator: torch.Generator) -> Call:
    def draw(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point():
            fresh = torch.randn(tensor.shape, generator=generator)
            return fresh.to(tensor.device, tensor.dtype)
        if tensor.dtype == torch.bool or tensor.numel() == 0:
            return tensor
        # Integers are usually indices: beyond the range of the example they may lie outside a
        # table.
        low, high = int(tensor.min()), int(tensor.max())
        fresh = torch.randint(low, high + 1, tensor.shape, generator=generator)
        return fresh.to(tensor.device, tensor.dtype)

    args, kwargs = pytree.tree_map_only(Tensor, draw, example)
    return tuple(args), dict(kwargs)
