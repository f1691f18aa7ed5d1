"""An artefact read back: as a model, as plain weights, or only its document."""

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from espalier._ground.safetensors import Header
from espalier.artifact._container import KEY, read_header, read_tensors, refusing
from espalier.artifact._document import Artifact, from_text
from espalier.artifact._tensors import fill_, held
from espalier.compaction import ColumnEdit, Edits, apply_edits
from espalier.compaction._counting import unscaled
from espalier.compaction._edits import FORWARD
from espalier.compaction._gathered import scattered
from espalier.compaction._locals import CALL
from espalier.compaction._numbers import held_number
from espalier.compaction._standardised import CountingConv
from espalier.errors import CheckpointError, RequestError

Constructor = Callable[[], nn.Module]
"""Builds the original, dense architecture; its weights do not matter."""

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def load(path: str | os.PathLike[str], make_model: Constructor) -> nn.Module:
    """The stored model, in the architecture of its constructor, cut to size.

    Args:
        path: What :func:`~espalier.artifact.save` wrote.
        make_model: The original constructor, on the device the model is to be on. Called once, and
            only after the file has been found whole.

    Returns:
        The module, in the mode its constructor leaves it in. Parameters and persistent buffers are
        those that were saved, bit for bit and in their dtype. Names tied in the constructor are
        tied; buffers that are not persistent are the constructor's, cut where an edit says so.

    Raises:
        CheckpointError: The file is missing, damaged, hostile, of another version, or its edits or
            weights do not fit what ``make_model`` builds.
        RequestError: ``make_model`` builds no module with values.
    """
    path = Path(path)
    artifact, tensors = _read(path)
    return _filled(path, artifact, tensors, _made(make_model))


def expand(path: str | os.PathLike[str], make_model: Constructor) -> nn.Module:
    """The stored model in its dense architecture, with zeros where something was taken out.

    It computes what the compact model computes: what was removed was read by nothing. For a masked
    model this is :func:`load`.

    Args:
        path: What :func:`~espalier.artifact.save` wrote.
        make_model: The original constructor.

    Raises:
        CheckpointError, RequestError: As :func:`load`; or a branch was removed that puts out a
            constant other than zero.
    """
    path = Path(path)
    artifact, tensors = _read(path)
    dense = _made(make_model)
    small = _filled(path, artifact, tensors, dense)
    if small is dense:
        return dense
    named = {
        **dict(dense.named_parameters(remove_duplicate=False)),
        **dict(dense.named_buffers(remove_duplicate=False)),
    }
    cuts: dict[int, dict[int, tuple[int, ...]]] = {}
    for edit in artifact.edits.slices:
        cuts.setdefault(id(named[edit.name]), {})[edit.axis] = edit.keep
    done: set[int] = set()
    values = {name: tensor.detach() for name, tensor in held(small).items()}
    for column in artifact.edits.columns:
        values[column.name] = _wide(values[column.name], column)
    for branch in artifact.edits.branches:
        if values[f"{branch.module}.constant"].any():
            raise CheckpointError(
                f"{branch.module}: removed, and what is left of it is a constant that no zeros "
                "stand for; load() the compact model"
            )
        for name, tensor in held(dense).items():
            if name.startswith(f"{branch.module}."):
                values[name] = torch.zeros_like(tensor)
                cuts.pop(id(tensor), None)
    for norm in artifact.edits.norms:
        weight, module = f"{norm.module}.weight".removeprefix("."), small.get_submodule(norm.module)
        if norm.eps:
            values[weight] = unscaled(values[weight], norm)
        elif isinstance(module, CountingConv):
            # What stands for the weights that went is in their place, where statistics count it.
            keep = cuts[id(named[weight])].pop(1)
            order = [*keep, *sorted({*range(norm.size)} - {*keep})]
            whole = module.whole().detach()
            values[weight] = torch.empty_like(whole).index_copy_(
                1, torch.tensor(order, device=whole.device), whole
            )
    for name, target in held(dense).items():
        if id(target) not in done:
            target.data = _scattered(values[name], target.shape, cuts.get(id(target), {}))
            done.add(id(target))
    return dense


def state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The stored weights by name, on the CPU, without any model.

    Names that were tied are there too, and are the same tensor. A masked model's go into the
    original architecture by ``load_state_dict``, a compact one's into a module cut by the edits.

    Raises:
        CheckpointError: The file is missing, damaged, hostile or of another version.
    """
    return _read(Path(path))[1]


def inspect(path: str | os.PathLike[str]) -> Artifact:
    """What an artefact says of itself; the weights are not read, so not checked either.

    Raises:
        CheckpointError: The file is missing, damaged, hostile or of another version.
    """
    return _document(Path(path))[0]


def _document(path: Path) -> tuple[Artifact, Header]:
    with refusing(path):
        header = read_header(path)
        return from_text(header.metadata[KEY], header.tensors), header


def _read(path: Path) -> tuple[Artifact, dict[str, Tensor]]:
    artifact, header = _document(path)
    with refusing(path):
        tensors = read_tensors(path, header, artifact.weights_sha256)
    return artifact, tensors | {name: tensors[first] for name, first in artifact.tied.items()}


def _made(make_model: Constructor) -> nn.Module:
    model = make_model()
    if not isinstance(model, nn.Module):
        raise RequestError(f"make_model returned a {type(model).__name__}; it must build a module")
    held(model)
    return model


def _filled(
    path: Path, artifact: Artifact, tensors: dict[str, Tensor], dense: nn.Module
) -> nn.Module:
    """``dense`` itself when there is nothing to edit, else an edited copy; with the weights."""
    with refusing(path):
        _check_attributes(dense, artifact.edits)
        model = dense if artifact.edits == Edits() else apply_edits(dense, artifact.edits)
        fill_(model, tensors)
    return model


def _check_attributes(model: nn.Module, edits: Edits) -> None:
    """Attribute edits name a module's own numbers, nothing that merely answers to the name."""
    modules = dict(model.named_modules(remove_duplicate=False))
    for edit in edits.attributes:
        module = modules.get(edit.module)
        if module is not None and (edit.name == FORWARD or CALL in edit.name):
            continue  # literals and names in its code, which are looked for there
        value = None if module is None else held_number(module, edit.name)
        several = value if isinstance(value, tuple | list) else (value,)
        if not all(type(one) is int for one in several):
            raise CheckpointError(
                f"{edit.module}.{edit.name}: the model has no such number to edit"
            )
    for norm in edits.norms:
        module = modules.get(norm.module)
        if isinstance(module, nn.modules.conv._ConvNd) and module.weight.shape[1] == norm.size:
            continue
        vectors = [] if module is None else [*module.parameters(), *module.buffers()]
        if module is None or any(max(v.shape, default=1) not in (1, norm.size) for v in vectors):
            raise CheckpointError(f"{norm.module}: the model has no norm of {norm.size} channels")


def _scattered(value: Tensor, shape: torch.Size, cuts: dict[int, tuple[int, ...]]) -> Tensor:
    """``value`` at the kept indices of every cut axis of a tensor of zeros."""
    bits = value.view(_BITS[value.element_size()])  # integers, which every operation takes
    for axis, keep in cuts.items():
        size = list(bits.shape)
        size[axis] = shape[axis]
        index = torch.tensor(keep, device=bits.device)
        bits = bits.new_zeros(size).index_copy_(axis, index, bits)
    return bits.view(value.dtype).clone()


def _wide(value: Tensor, edit: ColumnEdit) -> Tensor:
    """All columns of a convolution from those that were kept."""
    bits = scattered(value.view(_BITS[value.element_size()]), edit)
    return bits.view(value.dtype)
