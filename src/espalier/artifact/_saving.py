"""A model and what is known of it, written to one file."""

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from espalier._ground.environment import versions
from espalier._ground.files import replacing
from espalier._ground.safetensors import MAX_HEADER, TensorInfo
from espalier.artifact._container import KEY, bounded_json
from espalier.artifact._document import Artifact, from_text, to_text
from espalier.artifact._tensors import held, place
from espalier.compaction import Compact, Edits, Size
from espalier.errors import CheckpointError, RequestError
from espalier.planning import Plan

_PACKAGES = ("espalier", "torch", "safetensors")


def save(
    path: str | os.PathLike[str],
    model: Compact | nn.Module,
    plan: Plan | None = None,
    metrics: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write a compact or a masked model as one artefact, atomically.

    Parameters and persistent buffers are written bit for bit, in their dtype; a tensor with two
    names is written once. The same arguments give the same bytes: there is no date in the file
    unless ``provenance`` holds one.

    Args:
        path: The file, by convention ``*.espalier``; replaced all at once.
        model: What :func:`espalier.compact` returned, edits and proof included; or a module in its
            original architecture, zeros in place. Any device. Not modified.
        plan: What was to be pruned, in the dense architecture.
        metrics: What was measured; anything JSON can hold, no NaN.
        provenance: Added to the versions of Espalier, PyTorch, safetensors and Python; likewise.

    Raises:
        RequestError: The model holds what an artefact cannot (state that is no tensor, values on
            no device, an exotic dtype), or metrics or provenance are not JSON.
        RunFolderError: The file cannot be written; an old one there is untouched.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from espalier.artifact import inspect, load
        >>> net = nn.Linear(2, 1)
        >>> with TemporaryDirectory() as folder:
        ...     save(f"{folder}/net.espalier", net, metrics={"accuracy": 0.99})
        ...     same = load(f"{folder}/net.espalier", lambda: nn.Linear(2, 1))
        ...     inspect(f"{folder}/net.espalier").metrics
        {'accuracy': 0.99}
        >>> torch.equal(same.weight, net.weight)
        True
    """
    small = model if isinstance(model, Compact) else None
    module = model.model if isinstance(model, Compact) else model
    if not isinstance(module, nn.Module):
        raise RequestError(f"an artefact holds a module, not a {type(module).__name__}")
    tensors, tied = _stored(module)
    infos, data = _pack(tensors)
    artifact = Artifact(
        tensors=infos,
        tied=tied,
        edits=Edits() if small is None else small.edits,
        plan=plan,
        metrics=metrics or {},
        proof=None if small is None else small.proof,
        change=None if small is None else small.change,
        before=None if small is None else small.before,
        after=Size.of(module) if small is None else small.after,
        provenance={
            "versions": {"python": platform.python_version(), **versions(*_PACKAGES)},
            **(provenance or {}),
        },
        weights_sha256=hashlib.sha256(data).hexdigest(),
    )
    header = _header(artifact)
    with replacing(Path(path)) as temporary, open(temporary, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.write(data)


def _stored(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors under their first names, as contiguous copies; the further names."""
    first: dict[object, str] = {}
    tensors: dict[str, Tensor] = {}
    tied: dict[str, str] = {}
    for name, tensor in held(model).items():
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise RequestError(
                f"{name}: a sparse or quantised tensor cannot be saved; make it dense"
            )
        # By the place in memory: two names may be two objects over one storage.
        same = first.setdefault(place(tensor), name)
        if same != name:
            tied[name] = same
            continue
        plain = tensor.detach().resolve_conj().resolve_neg().cpu()
        tensors[name] = plain.clone(memory_format=torch.contiguous_format)
    return tensors, tied


def _pack(tensors: dict[str, Tensor]) -> tuple[dict[str, TensorInfo], memoryview]:
    """Where safetensors lays each tensor, and the bytes."""
    try:
        file = safetensors.torch.save(tensors)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise RequestError(f"safetensors cannot hold these tensors: {error}") from error
    start = 8 + int.from_bytes(file[:8], "little")
    entries = json.loads(file[8:start])
    infos = {
        name: TensorInfo(
            dtype=entry["dtype"],
            shape=tuple(entry["shape"]),
            begin=entry["data_offsets"][0],
            end=entry["data_offsets"][1],
        )
        for name, entry in entries.items()
        if name != "__metadata__"
    }
    return infos, memoryview(file)[start:]


def _header(artifact: Artifact) -> bytes:
    """The header with the document in it, which has been read back: what is written can be read."""
    try:
        text = to_text(artifact)
        # What a reader would refuse is found out now, before the old file is replaced.
        from_text(text, artifact.tensors)
    except (TypeError, ValueError, RecursionError) as error:
        raise RequestError(f"metrics or provenance cannot be saved as JSON: {error}") from error
    except CheckpointError as error:
        raise RequestError(f"this could not be read back: {error}") from error
    entries = {
        name: {"dtype": i.dtype, "shape": list(i.shape), "data_offsets": [i.begin, i.end]}
        for name, i in artifact.tensors.items()
    }
    header = json.dumps({"__metadata__": {KEY: text}, **entries}, separators=(",", ":"))
    if len(header) > MAX_HEADER - 8:
        raise RequestError(f"the document is too large: {len(header)} bytes, {MAX_HEADER} allowed")
    bounded_json(header, "the header")
    return header.encode() + b" " * (-len(header) % 8)  # so that the data are aligned
