"""The bytes of text files, for language models without a vocabulary."""

import os
import sysconfig
from pathlib import Path

import torch
from torch import Tensor

from espalier._ground.reading import read_bytes
from espalier.errors import DataError, RequestError

EVERY = 10
"""One file in so many is for test."""
_MAX_FILE = 1 << 24
_ELSEWHERE = {"site-packages", "dist-packages", "__pycache__"}


def load_bytes(
    path: str | os.PathLike[str] | None = None, *, pattern: str = "*.py", limit: int = 1 << 24
) -> tuple[Tensor, Tensor]:
    """The bytes of the files in a folder, for training and for test.

    Files are taken in the order of their names until there are ``limit`` bytes; every tenth is for test, so that no
    file is in both. After each file comes one zero byte.

    Args:
        path: The folder, looked through at any depth; None: the standard library of this Python, without what is
            installed beside it.
        pattern: Of the files' names.
        limit: Bytes in all, ≥ 1.

    Returns:
        Two uint8 tensors (N,).

    Raises:
        DataError: No such folder, a file that cannot be read, or too few files for both parts.
        RequestError: ``limit`` < 1.

    Example:
        >>> train, test = load_bytes(pattern="c*.py", limit=2_000_000)
        >>> train.dtype, len(train) > len(test) > 0
        (torch.uint8, True)
    """
    if limit < 1:
        raise RequestError(f"limit={limit}; give at least 1 byte")
    root = Path(sysconfig.get_path("stdlib") if path is None else path).expanduser()
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    parts: tuple[list[bytes], list[bytes]] = ([], [])
    taken = 0
    for index, file in enumerate(_files(root, pattern)):
        if taken >= limit:
            break
        try:
            content = read_bytes(file, _MAX_FILE)[: limit - taken] + b"\0"
        except OSError as error:
            raise DataError(f"{file}: cannot be read: {error.strerror}") from error
        parts[index % EVERY == EVERY - 1].append(content)
        taken += len(content)
    if not parts[0] or not parts[1]:
        raise DataError(
            f"{root}: fewer than {EVERY} files {pattern} within {limit:,} bytes, so none is left for test; "
            "give a folder with more files, another pattern, or a larger limit"
        )
    train, test = (torch.frombuffer(bytearray(b"".join(part)), dtype=torch.uint8) for part in parts)
    return train, test


def _files(root: Path, pattern: str) -> list[Path]:
    """Regular files, sorted by path; links are not followed out of the folder."""
    found = (file for file in root.rglob(pattern) if file.is_file() and not file.is_symlink())
    return sorted(file for file in found if not _ELSEWHERE & set(file.relative_to(root).parts))
