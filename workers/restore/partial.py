"""Partial files: an image on its way, under a name that nobody takes for a whole one.

    create x.partial ─ lock ─ write … fsync ─ link to x ─ unlink x.partial ─ fsync of the directory

A crash before the link leaves `x.partial`, whose lock died with the process: the next restore goes on with it if its progress
allows, else removes it. One after the link leaves `x` whole, and perhaps a second name of it that the next restore to `x`
removes too: it is never gone on with, because two names would be one file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from workers.durable import sync_directory
from workers.restore.errors import (
    RestoreError,
    TargetExistsError,
    TargetFullError,
    TargetInUseError,
    TargetNotWritableError,
    TargetUnfitError,
)
from workers.restore.open_elsewhere import user_of

SUFFIX: Final = ".partial"

#: Guests' data: not for others. libvirt gives a disk to QEMU's user when the guest starts.
_MODE: Final = 0o600

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

#: What a file system says that has no hard links.
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})

#: How file systems without locks answer. [fcntl(2); QEMU util/osdep.c: qemu_probe_lock_ops]
_NO_LOCKS: Final = frozenset({errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
_FLOCK: Final = struct.Struct("hhqqi4x")  # struct flock on 64 bits: type, whence, start, length, pid


def write_failure(path: Path, number: int, reason: str) -> RestoreError:
    """The error for an errno that writing to `path` ended with."""
    if number in _FULL:
        return TargetFullError(f"There is no space left for {path}.")
    return TargetNotWritableError(f"Writing {path} failed: {reason}.")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError into one of ours that names `path`."""
    try:
        yield
    except OSError as error:
        raise write_failure(path, error.errno or 0, error.strerror or str(error)) from error


def check_free(path: Path, *, overwrite: bool) -> None:
    """Raises TargetExistsError if anything is at `path`; with `overwrite` only for what is no plain file.

    A file that a running guest uses is refused either way with TargetInUseError: the guest would go on writing to what has no
    name any more.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not overwrite:
        raise TargetExistsError(f"{path} exists.")
    if not stat.S_ISREG(status.st_mode):
        raise TargetExistsError(f"{path} exists and is not a plain file.", advice="Restore to another directory.")
    with path.open("rb+") as file:
        if locked_by_qemu(file.fileno(), path) or user_of(status) is not None:
            raise TargetInUseError(f"{path} is in use by a running guest or a QEMU tool.")


def locked_by_qemu(fd: int, path: Path) -> bool:
    """Return True if anybody holds a byte lock on the file, as QEMU does on every image it has open. [QEMU block/file-posix.c]

    Raises TargetUnfitError if that cannot be told.
    """
    wanted = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, wanted)
    except OSError as error:
        if error.errno in _NO_LOCKS:  # QEMU could not lock there either
            return False
        raise TargetUnfitError(f"Whether {path} is in use cannot be told: {error.strerror}.") from error
    return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)


class PartialFile:
    """A new file that gets the name `final` when it is whole. A context manager: leaving it without `commit` removes it,
    unless it was told to `stay`.

    `adopt` is asked about what an earlier one left: with True that is gone on with, and `adopted` says so. Before a leftover
    is removed `forget` is called. Raises TargetExistsError, TargetInUseError, TargetNotWritableError and TargetFullError.
    """

    def __init__(
        self,
        final: Path,
        *,
        overwrite: bool,
        adopt: Callable[[os.stat_result], bool] = lambda _found: False,
        forget: Callable[[], None] = lambda: None,
    ) -> None:
        check_free(final, overwrite=overwrite)
        self.final = final
        self.path = final.with_name(final.name + SUFFIX)
        self.stay = False
        self._overwrite = overwrite
        self._committed = False
        with writing(self.path):
            left = self._leftover(adopt)
            self.adopted = left is not None
            if left is None:
                forget()
            self.fd = self._create() if left is None else left

    def commit(self) -> None:
        """Make it durable, and give it its final name. Only now does anything look whole."""
        with writing(self.path):
            os.fsync(self.fd)
            if not self._is_ours():
                raise TargetInUseError(f"Another restore has taken {self.path}.")
            self._give_name()
            self._committed = True
            sync_directory(self.final.parent)

    def close(self) -> None:
        if not self._committed and not self.stay:
            with suppress(OSError):
                if self._is_ours():
                    self.path.unlink()
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _create(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(self.path, flags, _MODE)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (FileExistsError, BlockingIOError) as error:  # it was not there a moment ago
            raise TargetInUseError(f"Another restore writes {self.path}.") from error
        return fd

    def _is_ours(self) -> bool:
        """Two that begin at one moment may remove each other's new file as a leftover; the name then is one's only."""
        try:
            found = self.path.lstat()
        except FileNotFoundError:
            return False
        return os.path.samestat(found, os.fstat(self.fd))

    def _leftover(self, adopt: Callable[[os.stat_result], bool]) -> int | None:
        """What an earlier restore left, locked, if it is to be gone on with; else nothing of it is there any more."""
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.fstat(fd)
            self._check_same(found)
            if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and adopt(found):
                return fd
            self.path.unlink()
        except (BlockingIOError, FileNotFoundError) as error:
            os.close(fd)
            raise TargetInUseError(f"Another restore writes {self.path}.") from error
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return None

    def _check_same(self, found: os.stat_result) -> None:
        if not os.path.samestat(found, self.path.lstat()):
            raise TargetInUseError(f"Another restore writes {self.path}.")

    def _give_name(self) -> None:
        if self._overwrite:
            check_free(self.final, overwrite=True)
            self.path.rename(self.final)
            return
        try:
            self.final.hardlink_to(self.path)  # unlike a rename it fails if somebody took the name meanwhile
        except FileExistsError as error:
            raise TargetExistsError(f"{self.final} exists since a moment ago; it was left as it is.") from error
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            check_free(self.final, overwrite=False)
            self.path.rename(self.final)
            return
        self.path.unlink()
