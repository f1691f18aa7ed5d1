"""Pretrained weights from safetensors; a pickle is never opened."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from espalier._ground.reading import opened
from espalier._ground.safetensors import read_tensors
from espalier.errors import CheckpointError, RequestError
from espalier.models._darknet_file import is_darknet, load_darknet
from espalier.models._yolo import Darknet

_PICKLE_SUFFIXES = {".pt", ".pth", ".th", ".bin", ".pkl", ".pickle", ".ckpt", ".tar"}
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80")  # torch.save's zip, and a bare pickle
_LISTED = 8  # names in a message before the rest is only counted


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Copy the tensors of a safetensors file into ``model``, all of them or none; for YOLO also darknet's ``.weights``.

    Keys must be those of ``model.state_dict()``; only ``num_batches_tracked``, which nothing in
    evaluation reads, and a second name of a tensor that is there (tied weights) may be missing.
    Values are converted to the model's dtype and device. No more memory is taken than the file is long.

    Args:
        model: Changed in place.
        path: The file.

    Raises:
        CheckpointError: The file is missing, cut short or not safetensors, or its keys or shapes
            are not the model's; the message lists them.
        RequestError: The file is a pickle, which could run code when opened.
    """
    if is_darknet(Path(path)):
        if not isinstance(model, Darknet):
            raise RequestError(
                f"{path} is a file of darknet's, for yolov3, yolov3_spp and yolov3_tiny; "
                f"{type(model).__name__} takes safetensors"
            )
        load_darknet(model, path)
        return
    tensors = _read(Path(path))
    own = model.state_dict()
    problems = [*_missing(own, tensors), *_unexpected(own, tensors), *_misshapen(own, tensors)]
    # Everything is checked before anything is changed, and said at once.
    if problems:
        raise CheckpointError(
            "\n  ".join([f"{path} does not fit {type(model).__name__}:", *problems])
        )
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        # Looked at before any library opens it: opening a pickle is what can run code.
        with opened(path) as file:
            start = file.read(4)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    if path.suffix in _PICKLE_SUFFIXES or start.startswith(_PICKLE_STARTS):
        raise RequestError(
            f"{path} is a pickle, which can run any code when it is opened, so it is refused. If "
            "you trust it, convert it once: python -c 'import torch, safetensors.torch as s; "
            f's.save_file(torch.load("{path}", weights_only=True), '
            f'"{path.with_suffix(".safetensors")}")\' (if the file nests its tensors, add '
            '["state_dict"] after torch.load(...))'
        )
    try:
        return read_tensors(path)
    except (CheckpointError, OSError) as error:
        raise CheckpointError(
            f"{path}: not a complete safetensors file ({size} bytes): {error}"
        ) from error


def _missing(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> Iterable[str]:
    # A tied tensor is one tensor under two names, and a file may hold it once.
    given = {_place(own[name]) for name in tensors if name in own}
    names = [
        name
        for name in own
        if name not in tensors
        and not name.endswith("num_batches_tracked")
        and _place(own[name]) not in given
    ]
    if names:
        yield f"missing from the file: {_listing(names)}"


def _unexpected(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> Iterable[str]:
    names = [name for name in tensors if name not in own]
    if names:
        yield f"not in the model: {_listing(names)}"
    if tensors and all(name.startswith("module.") for name in tensors):
        yield "every key begins with 'module.' (saved from DataParallel): save it without"


def _misshapen(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> Iterable[str]:
    names = [
        f"{name} is {tuple(tensor.shape)} in the file, {tuple(own[name].shape)} in the model"
        for name, tensor in tensors.items()
        if name in own and tensor.shape != own[name].shape
    ]
    if names:
        yield f"of another shape: {_listing(names)}"


def _place(tensor: Tensor) -> tuple[int, int, torch.Size]:
    return tensor.untyped_storage().data_ptr(), int(tensor.storage_offset()), tensor.shape


def _listing(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
