"""A handle's state in one folder that all ranks write, each its part, and any number of ranks reads.

``torch.distributed.checkpoint`` cuts and joins the tensors. Its safetensors storage is used, so that nothing is
pickled: what is no tensor travels as JSON in one more tensor.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from espalier._ground.documents import parse_json
from espalier._ground.safetensors import MAX_HEADER
from espalier._ground.sharding import parameters_of
from espalier._ground.tree import decoded, encoded
from espalier.errors import CheckpointError, RequestError
from espalier.methods._handle import Handle

_STRUCTURE = "structure"


@torch.no_grad()
def save_in_parts(handle: Handle, folder: Path | str) -> None:
    """Write the state of a handle; every rank writes its part of each sharded tensor. All ranks call it.

    Beside the model's and the optimiser's own state, which ``torch.distributed.checkpoint`` saves as they are.

    Args:
        handle: Of any method; on one rank, in DDP, or on FSDP2's shards.
        folder: Of its own, new or empty, that all ranks can write to.

    Raises:
        RequestError: This torch has no storage of safetensors for it.
    """
    storage, checkpoint = _storage()
    state = handle.state_dict()
    if "loss" in state:  # of this interval, each rank's own so far
        loss = state["loss"]
        state["loss"] = {**loss, "total": handle.world.mean(loss["total"])}
    tensors: dict[str, Tensor] = {}
    structure = encoded(state, tensors)
    text = handle.world.agree(json.dumps(structure, allow_nan=False)).encode()
    tensors[_STRUCTURE] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    writer = storage.HuggingFaceStorageWriter(str(folder), save_distributed=True)
    checkpoint.save(tensors, storage_writer=writer, no_dist=handle.world.size == 1)


@torch.no_grad()
def load_in_parts_(handle: Handle, folder: Path | str) -> None:
    """Load what :func:`save_in_parts` wrote, on this or any other number of ranks. All ranks call it.

    Args:
        handle: Made with the same model, plan and method; sharded as it likes.
        folder: As it was given there.

    Raises:
        CheckpointError: It holds no such state.
        RequestError: The state is another method's or another model's; and as :func:`save_in_parts`.
    """
    storage, checkpoint = _storage()
    alone = handle.world.size == 1

    def read(into: dict[str, Tensor]) -> dict[str, Tensor]:
        reader = storage.HuggingFaceStorageReader(str(folder))
        checkpoint.load(into, storage_reader=reader, no_dist=alone)
        return into

    try:
        kept = storage.HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
        text = read({_STRUCTURE: _empty(kept[_STRUCTURE])})[_STRUCTURE]
        structure = parse_json(bytes(text.tolist()).decode(), MAX_HEADER)
    except (OSError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"{folder}: holds no state of a handle ({type(error).__name__}: {error!s:.100}); give the folder that "
            "save_in_parts wrote"
        ) from error
    parameters = parameters_of(handle.model)
    places = {
        path: _like(path, one, parameters) for path, one in kept.items() if path != _STRUCTURE
    }
    handle.load_state_dict(decoded(structure, read(places)))


def _empty(kept: Any) -> Tensor:
    return torch.empty(kept.size, dtype=kept.properties.dtype)


def _like(path: str, kept: Any, parameters: Mapping[str, Tensor]) -> Tensor:
    """Room for a tensor: of the shape of a parameter that its path names, it is placed as that is."""
    for name in path.split("/"):
        parameter = parameters.get(name)
        if parameter is not None and tuple(parameter.shape) == tuple(kept.size):
            return torch.empty_like(parameter, dtype=kept.properties.dtype)
    return _empty(kept)


def _storage() -> tuple[Any, Any]:
    try:
        import torch.distributed.checkpoint as checkpoint
        from torch.distributed.checkpoint import hf_storage

        hf_storage.HuggingFaceStorageWriter(".", save_distributed=True)
    except (ImportError, TypeError) as error:
        raise RequestError(
            f"torch {torch.__version__} has no storage of safetensors in parts ({error!s:.80}); install torch 2.9 or "
            "later"
        ) from error
    return hf_storage, checkpoint
