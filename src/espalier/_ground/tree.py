"""Nested dicts and lists of tensors and scalars, in one safetensors file.

What PyTorch calls a state dictionary: of a model, an optimiser, a scheduler, a solver. Nothing is
pickled, so a file from a stranger can at worst be refused.

The file: every tensor under its path (``model/conv1.weight``), and in the metadata the format and
its version, the structure as JSON, and a SHA-256 over structure and tensors. In the structure a
tensor is ``{"tensor": path}``, a dict ``{"dict": [[key, node], …]}`` (so that keys may be
integers), a list ``{"list": [node, …]}``, a float that JSON lacks ``{"float": "nan"}``, and any
other scalar itself.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from espalier._ground.documents import parse_json
from espalier._ground.files import write_tensors
from espalier._ground.safetensors import MAX_HEADER, read_header, read_tensors
from espalier.errors import CheckpointError, RequestError, shown

Tree = Any
"""A tensor; None, bool, int, float or str; a dict with such scalars as keys; a list; nested."""

FORMAT = "espalier-tree"
VERSION = "1"

_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def save_tree(path: Path | str, tree: Tree, keep: Path | None = None) -> None:
    """Write a tree of tensors and scalars to one file, atomically.

    Tensors may be on any device, not contiguous, and share storage; each is written as its own
    contiguous copy, bit for bit. Tuples become lists.

    Args:
        path: The file to write; replaced all at once.
        tree: What to write.
        keep: Where the former file at ``path``, if there is one, is moved.

    Raises:
        RequestError: Something in ``tree`` is neither a tensor, a scalar, a dict nor a list.
        RunFolderError: The disk is full or the folder cannot be written; the old file is untouched.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     save_tree(f"{folder}/a.safetensors", {0: torch.ones(2), "best": float("-inf")})
        ...     load_tree(f"{folder}/a.safetensors")
        {0: tensor([1., 1.]), 'best': -inf}
    """
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(encoded(tree, tensors), allow_nan=False)
    tensors = {path: tensor.detach().cpu().contiguous() for path, tensor in tensors.items()}
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "structure": structure,
        "sha256": _checksum(structure, tensors),
    }
    write_tensors(Path(path), tensors, metadata, keep)


def load_tree(path: Path | str) -> Tree:
    """Read back what :func:`save_tree` wrote; tensors on the CPU, no more than the file is long.

    Raises:
        CheckpointError: No such file; truncated; not ours; of another version; altered.
    """
    path = Path(path)
    with _refusing(path):
        metadata = read_header(path).metadata
    _check_origin(path, metadata)
    with _refusing(path):
        tensors = read_tensors(path)
    structure = metadata.get("structure", "")
    if metadata.get("sha256") != _checksum(structure, tensors):
        _refuse(path, "its contents do not match its checksum, so it was damaged or altered")
    try:
        return decoded(parse_json(structure, MAX_HEADER), tensors)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        _refuse(path, f"its structure cannot be read ({type(error).__name__}: {error!s:.200})")


def onto(tree: Tree, device: torch.device) -> Tree:
    """The tree with its tensors on the device."""
    if isinstance(tree, Tensor):
        return tree.to(device)
    if isinstance(tree, dict):
        return {key: onto(value, device) for key, value in tree.items()}
    return [onto(value, device) for value in tree] if isinstance(tree, list) else tree


def encoded(node: Tree, tensors: dict[str, Tensor], at: tuple[str, ...] = ()) -> Any:
    """The JSON of a node at a path; its tensors are added to ``tensors`` under their paths, as they are.

    Raises:
        RequestError: Something is neither a tensor, a scalar, a dict nor a list.
    """
    if isinstance(node, Tensor):
        path = "/".join(at) or "tensor"
        while path in tensors or path == "__metadata__":  # keys 1 and "1", or a key with a slash
            path += "'"
        tensors[path] = node
        return {"tensor": path}
    if isinstance(node, Mapping):
        pairs = []
        for key, value in node.items():
            if not isinstance(key, str | int | bool | None):
                raise RequestError(
                    f"{'/'.join(at)}: a key {key!r} of type {type(key).__name__} cannot be saved; "
                    f"keys are strings or integers"
                )
            pairs.append([key, encoded(value, tensors, (*at, str(key)))])
        return {"dict": pairs}
    if isinstance(node, list | tuple):
        return {"list": [encoded(x, tensors, (*at, str(i))) for i, x in enumerate(node)]}
    if isinstance(node, float) and not math.isfinite(node):
        return {"float": str(float(node))}
    if isinstance(node, float):
        return float(node)  # also numpy's float64, which is a float
    if node is None or isinstance(node, bool | int | str):
        return node
    raise RequestError(
        f"{'/'.join(at)}: a {type(node).__name__} cannot be saved; a state dictionary holds "
        f"tensors, None, bool, int, float, str, dicts and lists"
    )


def decoded(node: Any, tensors: Mapping[str, Tensor]) -> Tree:
    """The inverse of :func:`encoded`."""
    if not isinstance(node, dict):
        return node
    ((kind, content),) = node.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: decoded(value, tensors) for key, value in content}
    if kind == "list":
        return [decoded(value, tensors) for value in content]
    if kind == "float":
        return _NOT_FINITE[content]
    raise ValueError(f"unknown kind {kind!r}")


def _checksum(structure: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(structure.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        _refuse(path, "there is no such file")
    except OSError as error:
        _refuse(path, f"it cannot be read: {error.strerror or error}")
    except CheckpointError as error:
        _refuse(path, str(error))


def _check_origin(path: Path, metadata: Mapping[str, str]) -> None:
    if metadata.get("format") != FORMAT:
        _refuse(path, "it is a safetensors file, but not a checkpoint of Espalier's")
    if metadata.get("version") != VERSION:
        _refuse(
            path,
            f"it has format version {shown(metadata.get('version'))} and this Espalier reads "
            f"{VERSION!r}; use the Espalier that wrote it",
        )


def _refuse(path: Path, reason: str) -> NoReturn:
    raise CheckpointError(f"{path}: {reason}; restore it from a copy")
