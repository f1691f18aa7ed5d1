"""Opening a file that may be anybody's: a regular file, of a bounded size, and nothing else.

Every file that Espalier reads is opened here. What a name stands for is looked at after it has been opened, so
that a pipe, a device or a folder is refused instead of waited for, and nothing can be put in its place between
the look and the reading.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

# Opening a pipe waits for its writer, and opening a terminal may take it over, unless told not to.
_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)

_CLAIMLESS = 1 << 16


@contextmanager
def opened(path: str | os.PathLike[str], most: int | None = None) -> Iterator[IO[bytes]]:
    """A regular file, open for reading its bytes.

    Args:
        path: The file.
        most: Bytes that it may have; None for any number, where the caller reads a bounded part.

    Raises:
        OSError: No such file, no path at all, a folder, pipe, socket or device, or more bytes than ``most``;
            ``strerror`` says which.
    """
    name = os.fspath(path)
    try:
        descriptor = os.open(name, _FLAGS)
    except ValueError as error:  # a NUL, or letters that no file system has
        raise OSError(errno.EINVAL, f"no path of a file: {error}", name) from error
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "a pipe, socket or device, not a regular file", name)
        if most is not None:
            _check_size(found.st_size, most, name)
        yield file


def read_bytes(path: str | os.PathLike[str], most: int) -> bytes:
    """All of a regular file.

    Args:
        path: The file.
        most: Bytes that it may have.

    Raises:
        OSError: As :func:`opened`.
    """
    with opened(path, most) as file:
        # What is asked for is allocated; files of the system itself claim a size of 0.
        size = max(os.fstat(file.fileno()).st_size, _CLAIMLESS)
        content = file.read(min(most, size) + 1)
    _check_size(len(content), most, os.fspath(path))
    return content


def read_text(path: str | os.PathLike[str], most: int) -> str:
    """All of a regular file, as text.

    Raises:
        OSError: As :func:`opened`.
        UnicodeDecodeError: It is not UTF-8.
    """
    return read_bytes(path, most).decode()


def _check_size(size: int, most: int, name: str) -> None:
    if size > most:
        raise OSError(errno.EFBIG, f"{size:,} bytes or more, and at most {most:,} are read", name)
