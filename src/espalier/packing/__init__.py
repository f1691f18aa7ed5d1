"""The packed file: pruned and quantised weights in as few bytes as they need, and back bit for bit.

Positions are a bitmask, a relative index or entropy-coded; values are raw, of a table, or levels of
one distance, and entropy-coded where that is smaller: whichever is cheapest, tensor by tensor.
Nothing is lost and nothing is pickled; a damaged or hostile file is refused.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from espalier._ground.files import write_bytes
from espalier._ground.reading import read_bytes
from espalier.errors import CheckpointError
from espalier.packing._accounting import PackedTensor, Packing
from espalier.packing._container import from_bytes, to_bytes
from espalier.packing._record import MAX_HEADER
from espalier.packing._values import patterns

__all__ = ["PackedTensor", "Packing", "differing", "pack", "unpack"]

LIMIT = 1 << 30
"""Bytes that unpacked tensors may take in memory unless more are allowed, of a file that is long enough:
each of its bytes pays for 4,096, and the first 16 MiB are free."""

_FREE, _PER_BYTE = 1 << 24, 1 << 12


def pack(path: str | os.PathLike[str], model: nn.Module | Mapping[str, Tensor]) -> Packing:
    """Write weights into a small file, and say where each of its bits went.

    Zeros cost little, few distinct values cost little, and what repeats costs nothing; weights that
    are neither sparse nor quantised stay about as large as they are. The same weights give the same
    bytes. With ``pip install 'espalier[pack]'`` streams are entropy-coded where that is smaller;
    such a file needs it to be read.

    Args:
        path: Usually with the suffix ``.packed``; replaced all at once.
        model: A module (its state dictionary is packed), or tensors by name.

    Raises:
        RequestError: A tensor without plain values, or of a dtype that is not packed.
        RunFolderError: The file cannot be written.

    Source: Han et al. 2016, "Deep Compression", §2 and 3 (relative index, codebook, entropy coding);
    Ren et al. 2019, "ADMM-NN" (levels of one distance, the counting).

    Example:
        >>> import tempfile, torch
        >>> weight = torch.zeros(100, 100)
        >>> weight.view(-1)[::97] = 0.25
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     packing = pack(Path(folder) / "w.packed", {"weight": weight})
        ...     same = torch.equal(unpack(Path(folder) / "w.packed")["weight"], weight)
        >>> same, packing.file_bytes < 200
        (True, True)
    """
    tensors = model.state_dict() if isinstance(model, nn.Module) else model
    content, packing = to_bytes(tensors)
    write_bytes(Path(path), content)
    return packing


def unpack(path: str | os.PathLike[str], *, limit: int | None = None) -> dict[str, Tensor]:
    """The weights of a packed file, by name, on the CPU, bit for bit as they were packed.

    Tensors that were one when they were packed are equal, and are tensors of their own.

    Args:
        path: What :func:`pack` wrote.
        limit: Bytes that the tensors may take in memory, for a few bytes of a file can claim any number;
            by default what its length pays for, :data:`LIMIT` at most. Reading takes a few times that, and a
            file that is longer than its tensors is not read.

    Raises:
        CheckpointError: The file is missing, damaged, hostile, of another version, or its tensors
            are larger than the limit.
        RequestError: It is entropy-coded and ``espalier[pack]`` is not installed.
    """
    path = Path(path)
    try:
        content = read_bytes(path, (limit or LIMIT) + MAX_HEADER)
        paid = min(LIMIT, _FREE + _PER_BYTE * len(content))
        return from_bytes(content, paid if limit is None else limit)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error


def differing(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[str]:
    """The names whose tensors are not the same in dtype, shape and every bit, or are missing.

    >>> import torch
    >>> differing({"w": torch.tensor(0.0)}, {"w": torch.tensor(-0.0)})
    ['w']
    """
    return [
        name
        for name in {**before, **after}
        if name not in before
        or name not in after
        or before[name].dtype != after[name].dtype
        or before[name].shape != after[name].shape
        or not bool((patterns(before[name]) == patterns(after[name])).all())
    ]
