"""Edits applied to the eager module: tensors cut, module attributes made right."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from espalier._ground.wrapping import copied, plain
from espalier.compaction._branches import remove_
from espalier.compaction._code import literals, rewrite_
from espalier.compaction._columns import crop_
from espalier.compaction._counting import count_on_
from espalier.compaction._edits import FORWARD, AttributeEdit, Edits, SliceEdit
from espalier.compaction._gathered import gather_
from espalier.compaction._heads import narrow_
from espalier.compaction._locals import CALL, pin_
from espalier.compaction._numbers import held_number, hold_
from espalier.compaction._standardised import count_inputs_
from espalier.errors import RequestError, UnknownNameError, nearest

Kept = Mapping[int, SliceEdit]


def apply_edits(model: nn.Module, edits: Edits) -> nn.Module:
    """A copy of a module, physically smaller.

    Args:
        model: The dense architecture, from its original constructor; weights that it computes
            (``weight_norm``, masks) become ordinary ones. Not modified.
        edits: Which indices of which axes stay.

    Returns:
        A deep copy whose parameters and buffers are cut and whose modules' own sizes
        (``out_channels``, ``groups``, ``num_features`` …) say so. Shared parameters stay shared.

    Raises:
        UnknownNameError: An edit names no parameter, buffer or module.
        RequestError: An edit does not fit its tensor.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
        >>> rows = SliceEdit(name="0.weight", axis=0, size=3, keep=(0, 2))
        >>> bias = SliceEdit(name="0.bias", axis=0, size=3, keep=(0, 2))
        >>> columns = SliceEdit(name="1.weight", axis=1, size=3, keep=(0, 2))
        >>> apply_edits(net, Edits(slices=(rows, bias, columns)))
        Sequential(
          (0): Linear(in_features=2, out_features=2, bias=True)
          (1): Linear(in_features=2, out_features=1, bias=True)
        )
    """
    model = plain(model)
    tensors = {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }
    by_tensor: dict[int, dict[int, SliceEdit]] = {}
    for edit in edits.slices:
        tensor = tensors.get(edit.name)
        if tensor is None:
            hint = nearest(edit.name, tensors)
            raise UnknownNameError(f"{edit.name}: no such parameter or buffer; {hint}")
        _check(edit, tensor)
        by_tensor.setdefault(id(tensor), {})[edit.axis] = edit
    # The copy is told beforehand what every cut tensor becomes: sharing is kept, and the large
    # tensors are never copied whole.
    cut = {id(t): _cut(t, by_tensor[id(t)]) for t in tensors.values() if id(t) in by_tensor}
    small = copied(model, cut)
    named = dict(small.named_modules(remove_duplicate=False))
    # A norm that counts on is made to below; its sizes are those that it counts.
    counting = {id(named.get(edit.module)) for edit in edits.norms}
    for old, new in zip(model.modules(), small.modules(), strict=True):
        if id(new) in counting and not isinstance(new, nn.modules.conv._ConvNd):
            continue
        mine: dict[str, Kept] = {
            name: by_tensor[id(tensor)] for name, tensor in _own(old) if id(tensor) in cut
        }
        if mine:
            _attributes(new, mine)
    # Names first: that compiles a forward anew, from its source.
    for path, sizes in _pins(edits).items():
        pin_(_module(small, path), sizes)
    for change in edits.attributes:
        if CALL not in change.name:
            _set(small, change)
    for norm in edits.norms:
        module = _module(small, norm.module)
        if isinstance(module, nn.modules.conv._ConvNd):
            weight = model.get_parameter(f"{norm.module}.weight".removeprefix("."))
            count_inputs_(module, norm, _lost(weight, by_tensor.get(id(weight), {})))
        else:
            count_on_(small, norm)
    for column in edits.columns:
        gather_(small, column)
    for branch in edits.branches:
        remove_(small, branch)
    return small


def _own(module: nn.Module) -> list[tuple[str, Tensor]]:
    held = [*module._parameters.items(), *module._buffers.items()]
    return [(name, tensor) for name, tensor in held if tensor is not None]


def _check(edit: SliceEdit, tensor: Tensor) -> None:
    if not 0 <= edit.axis < tensor.dim() or tensor.shape[edit.axis] != edit.size:
        raise RequestError(
            f"{edit.name}: the edit is for axis {edit.axis} of size {edit.size}, "
            f"the tensor has shape {tuple(tensor.shape)}"
        )
    if not edit.keep or min(edit.keep) < 0 or max(edit.keep) >= edit.size:
        raise RequestError(f"{edit.name}: kept indices of axis {edit.axis} not in [0, {edit.size})")


def _cut(tensor: Tensor, edits: Kept) -> Tensor:
    data = tensor.detach()
    for axis, edit in edits.items():
        data = data.index_select(axis, torch.tensor(edit.keep, device=data.device))
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(data.contiguous(), requires_grad=tensor.requires_grad)
    return data.contiguous()


def _lost(weight: Tensor, edits: Kept) -> Tensor:
    """The entries of the filters that stay which go with their input channels, shape (filters, entries)."""
    rows = edits[0].keep if 0 in edits else range(weight.shape[0])
    kept = set(edits[1].keep) if 1 in edits else set(range(weight.shape[1]))
    columns = [i for i in range(weight.shape[1]) if i not in kept]
    return weight.detach()[list(rows)][:, columns].flatten(1)


def _pins(edits: Edits) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for edit in edits.attributes:
        if CALL in edit.name and isinstance(edit.after, int):
            found.setdefault(edit.module, {})[edit.name] = edit.after
    return found


def _module(model: nn.Module, path: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError as error:
        raise UnknownNameError(f"{path}: no such module") from error


def _set(model: nn.Module, edit: AttributeEdit) -> None:
    module = _module(model, edit.module)
    if edit.name == FORWARD and isinstance(edit.before, tuple) and isinstance(edit.after, tuple):
        if set(edit.before) - set(literals(module)):
            raise RequestError(f"{edit.module}.forward: does not say all of {edit.before}")
        rewrite_(module, dict(zip(edit.before, edit.after, strict=True)))
        return
    held = held_number(module, edit.name)
    old = tuple(held) if isinstance(held, tuple | list) else held
    if old == edit.after:  # it followed its weight
        return
    if old != edit.before or isinstance(old, bool):
        raise RequestError(
            f"{edit.module}.{edit.name}: expected the number {edit.before}, it is {held!r}"
        )
    several = isinstance(held, list) and isinstance(edit.after, tuple)
    hold_(module, edit.name, list(edit.after) if several else edit.after)  # type: ignore[arg-type]


def _attributes(module: nn.Module, edits: Mapping[str, Kept]) -> None:
    """Sizes that modules of PyTorch, and those built like them, hold as attributes."""
    weight = edits.get("weight", {})
    if isinstance(module, nn.modules.conv._ConvNd):
        _convolution(module, weight)
        return
    if isinstance(module, nn.MultiheadAttention):
        narrow_(module, edits)
        return
    if isinstance(module, nn.RNNBase):
        module.input_size = module.get_parameter("weight_ih_l0").shape[1]
        module.hidden_size = module.get_parameter("weight_hh_l0").shape[1]
        return
    tensor = module._parameters.get("weight")
    if isinstance(module, nn.GroupNorm) and 0 in weight:
        module.num_groups = _groups(module.num_groups, weight[0])
        module.num_channels = len(weight[0].keep)
        return
    if isinstance(module, nn.LayerNorm) or hasattr(module, "normalized_shape"):
        if tensor is not None and weight:
            module.normalized_shape = tuple(tensor.shape)  # type: ignore[assignment]
        return
    names = {
        0: ("out_features", "num_embeddings", "num_parameters", "num_features"),
        1: ("in_features", "embedding_dim"),
    }
    if type(module).__name__ == "Conv1D":  # transformers': weight is (in, out)
        names = {0: ("nx",), 1: ("nf",)}
    for axis, candidates in names.items():
        for edit in (part[axis] for part in edits.values() if axis in part):
            for name in candidates:
                if getattr(module, name, None) == edit.size:
                    setattr(module, name, len(edit.keep))


def _convolution(module: nn.modules.conv._ConvNd, weight: Kept) -> None:
    reads, writes = (0, 1) if module.transposed else (1, 0)
    if module.groups > 1 and 0 in weight:
        module.groups = _groups(module.groups, weight[0])
    # The groups come first: in_channels is counted from what a group reads.
    shape = module.weight.shape
    module.in_channels = int(shape[reads]) * (1 if module.transposed else module.groups)
    module.out_channels = int(shape[writes]) * (module.groups if module.transposed else 1)
    if any(axis > 1 for axis in weight):
        crop_(module, weight)


def _groups(groups: int, edit: SliceEdit) -> int:
    """How many groups still have channels."""
    return len({index // (edit.size // groups) for index in edit.keep})
