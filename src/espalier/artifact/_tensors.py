"""The named tensors of a module: which there are, which are one, and how they are filled."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from espalier.errors import CheckpointError, RequestError

_LISTED = 6  # names in a message before the rest is only counted


def held(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name, those under two names twice.

    Raises:
        RequestError: The model has state that is no tensor, or tensors without values.
    """
    named = {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }
    names = list(model.state_dict(keep_vars=True))
    odd = [name for name in names if name not in named]
    if odd:
        raise RequestError(
            f"{listing(odd)}: state that is neither a parameter nor a buffer; an artefact holds "
            "tensors alone"
        )
    found = {name: named[name] for name in names}
    empty = [name for name, t in found.items() if is_lazy(t) or t.is_meta]
    if empty:
        raise RequestError(f"{listing(empty)}: no values (lazy, or on the meta device)")
    return found


def place(tensor: Tensor) -> object:
    """Equal for two tensors that are one: the same memory, seen the same way."""
    if tensor.layout != torch.strided or not tensor.numel():
        return id(tensor)
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def fill_(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give every parameter and persistent buffer the value of its name, bit for bit.

    A tensor of another dtype than the file's takes the file's, within floating point or within
    complex numbers.

    Args:
        model: Changed in place, unless something does not fit: then not at all.
        tensors: By name, second names included.

    Raises:
        CheckpointError: Names, shapes or dtypes are not the model's, or two tensors of the file
            are one in the model.
        RequestError: As :func:`held`.
    """
    own = held(model)
    problems = [*_names(own, tensors), *_misfits(own, tensors)]
    if problems:
        lines = "\n  ".join(problems)
        raise CheckpointError(f"it does not fit {type(model).__name__} as edited:\n  {lines}")
    with torch.no_grad():
        for name, target in own.items():
            value = tensors[name]
            if target.dtype == value.dtype and target.is_contiguous():
                target.copy_(value)  # in place: views and shared memory stay what they are
            else:
                target.data = value.to(target.device, copy=True)


def _names(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> Iterable[str]:
    missing = [name for name in own if name not in tensors]
    if missing:
        yield f"missing from the file: {listing(missing)}"
    foreign = [name for name in tensors if name not in own]
    if foreign:
        yield f"not in the model: {listing(foreign)}"


def _misfits(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> Iterable[str]:
    sources: dict[object, tuple[str, Tensor]] = {}
    for name, target in own.items():
        if name not in tensors:
            continue
        value = tensors[name]
        if value.shape != target.shape:
            shapes = f"{tuple(value.shape)} in the file, {tuple(target.shape)} in the model"
            yield f"of another shape: {name} is {shapes}"
        alike = (
            value.is_floating_point() == target.is_floating_point()
            and value.is_complex() == target.is_complex()
        )
        number = value.is_floating_point() or value.is_complex()
        if value.dtype != target.dtype and not (alike and number):
            yield f"of another kind: {name} is {value.dtype} in the file, {target.dtype} here"
        first, source = sources.setdefault(place(target), (name, value))
        if source is not value:
            yield f"{first} and {name} are one tensor in the model, two in the file"


def listing(names: list[str]) -> str:
    """The first names of a list, for a message."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(ascii(name[:80])[1:-1] for name in names[:_LISTED]) + more
