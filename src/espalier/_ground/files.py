"""Replace a file all at once, or leave it as it was; and read a mapping back."""

import errno
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from espalier._ground.documents import MAX_TEXT, parse_json, parse_yaml
from espalier._ground.reading import read_text
from espalier.errors import RunFolderError, shown

TEMPORARY = ".tmp"
"""How the names of half-written files begin; whoever holds a folder's lock may delete them."""


@contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[Path]:
    """Hand out a temporary path; what is written there becomes ``path`` when the block ends.

    The temporary file lies in the same folder and has the same suffix. It is flushed to the disk
    and renamed, so a kill at any moment leaves the old file or the new one, never half of one.
    If the block raises, the old file is untouched and the temporary one is gone.

    Args:
        path: The file to replace, or to create.
        keep: Where the former ``path``, if there is one, is moved just before.

    Raises:
        RunFolderError: The disk is full, the folder cannot be written, or ``path`` is there and no file.
    """
    if not path.name or path.name == ".." or "\0" in str(path):
        raise RunFolderError(f"{shown(str(path))}: cannot be written: give the name of a file")
    temporary = path.with_name(f"{TEMPORARY}-{os.getpid()}-{path.name}")
    try:
        if (
            path.exists() and not path.is_file()
        ):  # a rename would put a file in the place of a device
            raise OSError(errno.EINVAL, "a folder, pipe, socket or device is there, and no file")
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            path.replace(keep)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        _remove(temporary)
        raise RunFolderError(f"{path}: cannot be written: {_reason(error)}") from error
    except BaseException:
        _remove(temporary)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Make ``content`` the whole of the file at ``path``, atomically.

    Raises:
        RunFolderError: The disk is full, or the folder cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: dict[str, str] | None = None,
    keep: Path | None = None,
) -> None:
    """Make safetensors the whole of the file at ``path``, atomically.

    Tensors may be on any device, not contiguous, and share storage; each is written as its own. The library's
    own ``save_file`` is not asked: it writes through a temporary file that a kill leaves behind, and
    gives the file a mode of its own in place of the umask's.

    Args:
        path: The file to replace, or to create.
        tensors: By name.
        metadata: For the header.
        keep: Where the former ``path``, if there is one, is moved just before.

    Raises:
        RunFolderError: The disk is full, or the folder cannot be written.
    """
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with replacing(path, keep) as temporary:
        temporary.write_bytes(save(own, metadata))


def clean(folder: Path) -> None:
    """Delete what kills have left half-written in a folder; its lock must be held."""
    for left in folder.glob(f"{TEMPORARY}*"):
        if left.is_file():
            left.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Replace a file by JSON; NaN and infinities become null, for JSON has none.

    Raises:
        RunFolderError: The disk is full, or the folder cannot be written.
    """
    text = json.dumps(plain(content), indent=2, allow_nan=False) + "\n"
    write_bytes(path, text.encode())


def plain(content: Any) -> Any:
    """The same with tuples as lists, 0-dimensional tensors as numbers, and NaN and ±∞ as None.

    >>> plain({"loss": float("nan"), "keep": (3, 4)})
    {'loss': None, 'keep': [3, 4]}
    """
    if isinstance(content, Mapping):
        return {str(key): plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [plain(value) for value in content]
    if hasattr(content, "item"):
        return plain(content.item())
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content if isinstance(content, str | int | float | None) else str(content)


def read_mapping(path: Path) -> Mapping[str, Any]:
    """A file of JSON, or of YAML by its suffix, that holds a mapping; at most ``MAX_TEXT`` bytes.

    Raises:
        RunFolderError: It cannot be read, or holds something else.
    """
    try:
        text = read_text(path, MAX_TEXT)
        content = parse_yaml(text) if path.suffix == ".yaml" else parse_json(text, finite=False)
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise RunFolderError(f"{path}: cannot be read: {error!s:.200}") from error
    if not isinstance(content, dict):
        raise RunFolderError(f"{path}: holds a {type(content).__name__}, not a mapping")
    return content


def _remove(path: Path) -> None:
    with suppress(OSError):  # the error under way says more
        path.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut; systems that cannot are left to themselves."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "no space left on the disk; free some and resume, what was saved before is kept"
    return f"{error.strerror or error}; what was saved before is kept"
