"""Small files that must survive a crash: on stable storage before the call returns, whole or not there at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def make_directory(path: Path) -> None:
    """Make a private directory and its parents; durable, as far as they were missing."""
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        directory.mkdir(mode=0o700, exist_ok=True)
        sync_directory(directory.parent)


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, data: str) -> None:
    """Put `data` at `path`, in place of what was there."""
    temporary = _temporary(path, data)
    temporary.rename(path)
    sync_directory(path.parent)


def create(path: Path, data: str) -> None:
    """Put `data` at `path`. Raises FileExistsError if there is something; of two callers one wins."""
    temporary = _temporary(path, data)
    try:
        path.hardlink_to(temporary)
    finally:
        temporary.unlink()
    sync_directory(path.parent)


def remove(path: Path) -> None:
    """Remove `path` if it is there."""
    path.unlink(missing_ok=True)
    sync_directory(path.parent)


def append_line(path: Path, line: str) -> None:
    """Append one line. A crash may leave a part of it as the last line, never anything else.

    It begins with a newline, so that it cannot run into a line that an earlier crash cut off; readers pass over empty lines.
    """
    new = not path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, f"\n{line}\n".encode())
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    if new:
        sync_directory(path.parent)


def _temporary(path: Path, data: str) -> Path:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return Path(name)
