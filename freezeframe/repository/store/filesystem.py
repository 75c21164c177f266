"""The file system calls that a directory store makes: one seam, so that a test can count, order, fail and cut them.

Those that change something, and the opening of a file to read: what only looks (stat, scandir) is not here.
"""

from __future__ import annotations

import ctypes
import errno
import io
import os
import stat
from typing import TYPE_CHECKING, Final

from freezeframe.direct import DirectWrites

if TYPE_CHECKING:
    from typing_extensions import Buffer

StrPath = str | os.PathLike[str]

_SYNC_FILE_RANGE_WRITE: Final = 2  # sync_file_range(2): begin to write dirty pages out, do not wait

#: Guests' data: not for others. The umask may take the group away too.
_FILE_MODE: Final = 0o640
_FOLDER_MODE: Final = 0o750
#: Of a folder in one that hands on its group (set-group-ID) and that the group may write to: users of one group share a
#: repository then, such as root on the hosts and the control node's own user, whoever of them makes a folder.
_SHARED: Final = stat.S_ISGID | stat.S_IWGRP
_SHARED_FOLDER_MODE: Final = 0o2770


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

    def open(self, path: StrPath) -> io.RawIOBase:
        """A file, to read. It is an error if it is anything else."""
        return io.FileIO(path, "rb", opener=_open_file)

    def create(self, path: StrPath) -> int:
        """A new file, open for writing; its descriptor. It is an error if anything is there."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, _FILE_MODE)

    def write_new(self, fd: int, data: Buffer) -> None:
        """All that a new file is to have, which the device begins with. Past the page cache if it is many whole blocks."""
        done = self._direct.write_new(fd, memoryview(data))
        if done != len(memoryview(data)):
            _write_cached(fd, memoryview(data)[done:], done)
            self.start_writeback(fd)

    def write(self, fd: int, data: Buffer, offset: int) -> None:
        """All of it, at `offset`."""
        _write_cached(fd, memoryview(data), offset)

    def start_writeback(self, fd: int) -> None:
        """Let the device begin now with what an fsync will soon wait for. A hint: it promises nothing."""
        if self._writeback is not None:
            self._writeback(fd, 0, 0, _SYNC_FILE_RANGE_WRITE)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def rename(self, source: StrPath, target: StrPath) -> None:
        os.rename(source, target)

    def link(self, source: StrPath, target: StrPath) -> None:
        """A second name; FileExistsError if the name is taken."""
        os.link(source, target)

    def symlink(self, leads: str, path: StrPath) -> None:
        """A link by name, that leads where it says."""
        os.symlink(leads, path)

    def unlink(self, path: StrPath) -> None:
        os.unlink(path)

    def make_folder(self, path: StrPath) -> None:
        """A folder, if it is not there."""
        try:
            os.mkdir(path, _FOLDER_MODE)
        except FileExistsError:
            if not _is_new_folder(path):
                return
        if os.stat(os.path.dirname(path)).st_mode & _SHARED == _SHARED:
            os.chmod(path, _SHARED_FOLDER_MODE)  # whatever the umask is

    def remove_folder(self, path: StrPath) -> None:
        """An empty folder; OSError if there is anything in it."""
        os.rmdir(path)

    def fsync_folder(self, path: StrPath) -> None:
        """Make durable every name that is in the folder now."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _open_file(path: str, flags: int) -> int:
    """Open a file, without waiting for whoever should write to a FIFO."""
    try:
        fd = os.open(path, flags | os.O_NONBLOCK)
    except BlockingIOError:  # a file, of which another holds a lease
        return os.open(path, flags)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        os.set_blocking(fd, True)
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, "it is no file", path)


def _is_new_folder(path: StrPath) -> bool:
    """Return True if the folder may be one that `mkdir` has made just now, its reply lost (`replies.py`): ours, and empty."""
    status = os.lstat(path)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not os.listdir(path)


def _write_cached(fd: int, rest: memoryview, offset: int) -> None:
    while rest:
        done = os.pwrite(fd, rest, offset)
        rest, offset = rest[done:], offset + done
