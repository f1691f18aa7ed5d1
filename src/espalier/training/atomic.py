"""Replace a file all at once, or leave it as it was."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from espalier.errors import RunFolderError

TEMPORARY = ".tmp-"
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
        RunFolderError: The disk is full, or the folder cannot be written.
    """
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            path.replace(keep)
        temporary.replace(path)
        _sync_folder(path.parent)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise RunFolderError(f"{path}: cannot be written: {_reason(error)}") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Make ``content`` the whole of the file at ``path``, atomically.

    Raises:
        RunFolderError: The disk is full, or the folder cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


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


def _reason(error: Exception) -> str:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or "No space left" in str(error) or "(os error 28)" in str(error):
        return "no space left on the disk; free some and resume, what was saved before is kept"
    return f"{error}; what was saved before is kept"
