"""The directory that becomes an image set: filled under another name, and renamed when it is whole."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from workers.durable import sync_directory
from workers.exchange.errors import ExportTargetError
from workers.restore.partial import writing

SUFFIX: Final = ".partial"

#: Guests' data: for others to pass through, since QEMU's own user must reach the images, but not to look at.
_MODE: Final = 0o711


@contextmanager
def staging(final: Path) -> Iterator[Path]:
    """The directory to fill. Leaving the block syncs its names and renames it to `final`; with an error it stays as it is.

    What an interrupted export left is what is given. Raises ExportTargetError, TargetFullError, TargetNotWritableError.
    """
    check_free(final)
    path = final.with_name(final.name + SUFFIX)
    with writing(path):
        path.mkdir(_MODE, exist_ok=True)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _lock(fd, path)
        yield path
        with writing(path):
            os.fsync(fd)
            _rename(path, final)
            sync_directory(final.parent)
    finally:
        os.close(fd)


def check_free(final: Path) -> None:
    """Raises ExportTargetError if there is anything but an empty directory, or no directory to put it in."""
    if not final.name or not final.parent.is_dir():
        raise ExportTargetError(f"{final.parent} is not a directory.")
    try:
        empty = not any(final.iterdir()) and not final.is_symlink()
    except FileNotFoundError:
        return
    except NotADirectoryError:
        empty = False
    if not empty:
        raise ExportTargetError(f"{final} exists.")


def _lock(fd: int, path: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ExportTargetError(f"Another export writes {path}.", advice="Wait for it, or export elsewhere.") from error


def _rename(path: Path, final: Path) -> None:
    try:
        path.rename(final)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        raise ExportTargetError(f"{final} exists since a moment ago; the export is in {path}.") from error
