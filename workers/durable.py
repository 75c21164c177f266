"""Small files that must survive a crash: on stable storage before the call returns, whole or not there at all.

Crash windows. Before the rename or link: a `.new-…` file is left, which `sweep` removes later. After it and before the
folder's fsync: the name may be lost, and no caller was told that it is there. In the middle of an appended line: the file
ends in a part of a line, which readers pass over and the next append cuts off.

`calls` is the seam: a test puts something there that counts, fails or loses power (tests/unit/workers/power.py).
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Final

#: The modes of directories: for us alone, and such that QEMU's user can pass through to files that libvirt gives it.
PRIVATE: Final = 0o700
PASSABLE: Final = 0o711

#: Seconds after which a `.new-…` file was left by a crash: no write takes that long.
STALE_S = 3600.0
_TEMPORARY = ".new-"


class Calls:
    """Each method is one system call that a crash can fall before or after. All raise OSError."""

    def create(self, path: Path) -> int:
        """Open a new file for writing. Raises FileExistsError."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def open_append(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def write(self, descriptor: int, data: bytes) -> int:
        """Write at the file's end. Return how many bytes were written: fewer than there are is no error."""
        return os.write(descriptor, data)

    def truncate(self, descriptor: int, size: int) -> None:
        os.ftruncate(descriptor, size)

    def fsync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        source.rename(target)

    def link(self, source: Path, target: Path) -> None:
        target.hardlink_to(source)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def make_folder(self, path: Path, mode: int) -> None:
        path.mkdir(mode, exist_ok=True)

    def fsync_folder(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


calls = Calls()


def make_directory(path: Path, mode: int = PRIVATE) -> None:
    """Make a directory with this mode, durably, and the parents that are missing: passable, since others may need them too.

    Its name is made durable even if it is there: the process that made it may have died before it did that.
    """
    missing = []
    folder = path
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for directory in reversed(missing):
        wanted = mode if directory == path else PASSABLE
        calls.make_folder(directory, wanted)
        if wanted != PRIVATE:
            directory.chmod(wanted)  # whatever the umask is
        calls.fsync_folder(directory.parent)
    if not missing:
        calls.fsync_folder(path.parent)


def sync_directory(path: Path) -> None:
    calls.fsync_folder(path)


def read(path: Path) -> str | None:
    """Return the file's text; None if there is no file. Raises OSError: what cannot be read is not absent."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None


def replace(path: Path, data: str) -> None:
    """Put `data` at `path`, in place of what was there."""
    _show(path, data, calls.rename)


def create(path: Path, data: str) -> None:
    """Put `data` at `path`. Raises FileExistsError if there is something; of two callers one wins."""
    _show(path, data, calls.link)


def remove(path: Path) -> None:
    """Remove `path` if it is there."""
    with suppress(FileNotFoundError):
        calls.unlink(path)
    calls.fsync_folder(path.parent)


def append_line(path: Path, line: str) -> None:
    """Append one line. A crash may leave a part of it as the last line, never anything else.

    Raises OSError if the line could not be written whole, and takes back what was written of it. The line begins with a
    newline, so that it cannot run into one whose newline was lost; readers pass over empty lines.
    """
    descriptor = calls.open_append(path)
    try:
        flock(descriptor, LOCK_EX)
        end = _cut_torn_line(descriptor)
        try:
            _write_all(descriptor, f"\n{line}\n".encode())
            calls.fsync(descriptor)
        except OSError:
            with suppress(OSError):
                calls.truncate(descriptor, end)
            raise
    finally:
        os.close(descriptor)
    if end == 0:  # a new file; or one that was made by a process that died before its name was durable
        calls.fsync_folder(path.parent)


def is_torn(line: bytes | str) -> bool:
    """Return True if a crash may have left `line`, the end of a file without a newline: it is no whole JSON. Pure."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return True
    return False


def sweep(directory: Path) -> None:
    """Remove the `.new-…` files that crashes have left in `directory` and below."""
    for path in directory.rglob(f"{_TEMPORARY}*"):
        with suppress(FileNotFoundError):
            if time.time() - path.lstat().st_mtime > STALE_S:
                calls.unlink(path)


def _cut_torn_line(descriptor: int) -> int:
    """Cut off the part of a line that a crash left, and return the file's size: another line would hide that it is torn."""
    size = os.fstat(descriptor).st_size
    data = os.pread(descriptor, size, 0)
    last = data[data.rfind(b"\n") + 1 :]
    if last and is_torn(last):
        size -= len(last)
        calls.truncate(descriptor, size)
    return size


def _show(path: Path, data: str, name: Callable[[Path, Path], None]) -> None:
    """Write `data` to a file of its own, and give it its name when its bytes are durable."""
    temporary = path.parent / f"{_TEMPORARY}{secrets.token_hex(8)}"
    descriptor = calls.create(temporary)
    try:
        try:
            _write_all(descriptor, data.encode())
            calls.fsync(descriptor)
        finally:
            os.close(descriptor)
        name(temporary, path)
    finally:
        with suppress(FileNotFoundError):  # renamed
            calls.unlink(temporary)
    calls.fsync_folder(path.parent)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[calls.write(descriptor, bytes(rest)) :]
