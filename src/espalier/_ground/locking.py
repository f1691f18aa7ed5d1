"""A folder that one process writes, and how it notices that the folder is no longer the one it took."""

import os
import sys
from pathlib import Path
from typing import Self

from espalier._ground.files import clean
from espalier.errors import RunFolderError

if sys.platform != "win32":
    import fcntl


class FolderLock:
    """A folder taken for this process until it is closed; what kills have left half-written in it is deleted.

    The lock is the operating system's, on the folder itself and on the file ``lock`` in it, so it goes with its
    process, however that ends. The folder's is that of an inode: whoever replaces the file is let in no more than
    others. Some network file systems lock no folders; there the file's must do. What stands in the file is only
    there to be read by people.

    Args:
        folder: Made if it is not there.

    Raises:
        RunFolderError: In use by another process, or cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._taken = folder, list[int]()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if sys.platform != "win32":
                self._take()
            self.check()  # it may have been made anew while it was being taken
            clean(folder)
        except OSError as error:
            self.close()
            raise RunFolderError(f"{folder}: cannot be written: {error.strerror}") from error
        except BaseException:
            self.close()
            raise

    def check(self) -> None:
        """Refuse to write into another folder than the one that was taken, though it has the same name.

        Raises:
            RunFolderError: The folder was deleted or moved, and perhaps made anew.
        """
        try:
            same = not self._taken or os.path.samestat(
                os.stat(self._folder), os.fstat(self._taken[0])
            )
        except (FileNotFoundError, NotADirectoryError):
            same = False
        if not same:
            raise RunFolderError(
                f"{self._folder}: was deleted, moved or made anew while it was in use, so nothing more is "
                "written there; begin again, in a folder that stays"
            )

    def close(self) -> None:
        """Give it back. Safe to call twice."""
        while self._taken:
            os.close(self._taken.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    if sys.platform != "win32":

        def _take(self) -> None:
            self._taken.append(os.open(self._folder, os.O_RDONLY))
            self._taken.append(os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o666))
            folder, file = self._taken
            for descriptor in (folder, file):
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    holder = os.pread(file, 32, 0).decode(errors="replace").strip() or "?"
                    raise RunFolderError(
                        f"{self._folder}: in use by process {holder}; wait for it or stop it, "
                        f"or give another folder"
                    ) from None
                except OSError:
                    if descriptor == file:
                        raise
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
