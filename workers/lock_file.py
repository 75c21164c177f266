"""Lock files: one caller at a time, of all threads and processes of the host. The kernel drops the lock of one that dies.

A lock file that is there can be locked also on a file system that is full or has become read-only. One that is missing and
cannot be made there is told apart (`NoLockFileError`): nobody has that lock.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Final, TextIO

#: Seconds between two tries for a lock that another has.
LOOK_S = 0.05

#: Why a file cannot be made on a file system whose files can be read.
_NOT_WRITABLE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


class NoLockFileError(OSError):
    """The lock file is missing, and its file system takes no new one: nobody has this lock."""


@contextmanager
def locked(path: Path, patience_s: float | None) -> Iterator[None]:
    """Hold the lock within the block. Raises BlockingIOError if another has it for longer than `patience_s`.

    None waits as long as it takes. Raises NoLockFileError if nobody can have it, OSError if that is not known.
    """
    with _opened(path) as file:
        if patience_s is None:
            flock(file, LOCK_EX)
        else:
            _lock_within(file.fileno(), patience_s)
        yield


@contextmanager
def locked_within(folder: Path, name: str, patience_s: float | None) -> Iterator[None]:
    """Hold the lock of a file in `folder`, which is made if it is missing. Raises as `locked` does."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _missing(error) or error from None
    with locked(folder / name, patience_s):
        yield


def _opened(path: Path) -> TextIO:
    try:
        return path.open("w")
    except OSError as error:
        missing = _missing(error)
        if missing is None:
            raise
        try:
            return path.open("r")  # a lock needs no writing
        except FileNotFoundError:
            raise missing from error


def _missing(error: OSError) -> NoLockFileError | None:
    """Return the error for a file that is missing if `error` says that no new one can be made; None if it says otherwise."""
    if error.errno not in _NOT_WRITABLE:
        return None
    return NoLockFileError(error.errno, error.strerror, error.filename)


def _lock_within(descriptor: int, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(LOOK_S)
        else:
            return
