"""The file system calls that a directory store makes: one seam, so that a test can count, order, fail and cut them.

Those that change something, and the opening of a file to read: what only looks (stat, scandir) is not here.
"""

from __future__ import annotations

import ctypes
import io
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from freezeframe.direct import DirectWrites

if TYPE_CHECKING:
    from typing_extensions import Buffer

_SYNC_FILE_RANGE_WRITE: Final = 2  # sync_file_range(2): begin to write dirty pages out, do not wait

#: Guests' data: not for others. The umask may take the group away too.
_FILE_MODE: Final = 0o640
_FOLDER_MODE: Final = 0o750


def _sync_file_range() -> ctypes._NamedFuncPointer | None:
    call: ctypes._NamedFuncPointer | None = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if call is not None:
        call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
        call.restype = ctypes.c_int
    return call


class Filesystem:
    """Each that changes something is one step that a crash can fall before or after. All raise OSError."""

    _writeback = staticmethod(_sync_file_range())  # type: ignore[arg-type]  # None where the libc has none

    def __init__(self) -> None:
        self._direct = DirectWrites()

    def open(self, path: Path) -> io.RawIOBase:
        """A file, to read."""
        return io.FileIO(path, "rb")

    def create(self, path: Path) -> int:
        """A new file, open for writing; its descriptor. It is an error if anything is there."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, _FILE_MODE)

    def write(self, fd: int, data: Buffer, offset: int) -> None:
        """All of it, at `offset`. Past the page cache if it is large; no other thread may write to that descriptor."""
        rest = memoryview(data)
        done = self._direct.write(fd, rest, offset)
        rest, offset = rest[done:], offset + done
        while rest:
            done = os.pwrite(fd, rest, offset)
            rest, offset = rest[done:], offset + done

    def start_writeback(self, fd: int) -> None:
        """Let the device begin now with what an fsync will soon wait for. A hint: it promises nothing."""
        if self._writeback is not None:
            self._writeback(fd, 0, 0, _SYNC_FILE_RANGE_WRITE)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def rename(self, source: Path, target: Path) -> None:
        source.rename(target)

    def link(self, source: Path, target: Path) -> None:
        """A second name; FileExistsError if the name is taken."""
        os.link(source, target)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def make_folder(self, path: Path) -> None:
        """A folder, if it is not there."""
        with suppress(FileExistsError):
            path.mkdir(_FOLDER_MODE)

    def remove_folder(self, path: Path) -> None:
        """An empty folder; OSError if there is anything in it."""
        path.rmdir()

    def fsync_folder(self, path: Path) -> None:
        """Make durable every name that is in the folder now."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
