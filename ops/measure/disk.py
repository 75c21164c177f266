"""The disk's own part: how fast it takes bytes one after another, and how long it takes until what was written is on it.

A contestant that syncs nothing has written to memory. What it left there is made durable right after it, and that time is added
for its *durable* row. For ours there is next to nothing left: every byte is durable when its receipt comes.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from pathlib import Path
from typing import Final

_PIECE_BYTES: Final = 8 << 20
_libc = ctypes.CDLL(None, use_errno=True)


def sync_s(place: Path) -> float:
    """Return the seconds until all that was written to a place's file system is on its disk: syncfs(2). Raises OSError."""
    fd = os.open(place, os.O_RDONLY)
    try:
        began = time.monotonic()
        if _libc.syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(place))
        return time.monotonic() - began
    finally:
        os.close(fd)


def sequential_mb_per_s(folder: Path, size_bytes: int) -> float:
    """Return MB/s of one file of random bytes, written past the page cache in pieces of 8 MiB, and made durable."""
    piece = mmap.mmap(-1, _PIECE_BYTES)  # O_DIRECT wants whole pages
    piece.write(os.urandom(_PIECE_BYTES))
    path = folder / "sequential"
    pieces = max(1, size_bytes // _PIECE_BYTES)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_DIRECT, 0o600)
    try:
        began = time.monotonic()
        for _ in range(pieces):
            if os.write(fd, piece) != _PIECE_BYTES:
                raise OSError(f"{path} took a part of a piece only")
        os.fsync(fd)
        return pieces * _PIECE_BYTES / (time.monotonic() - began) / 1e6
    finally:
        os.close(fd)
        path.unlink()
        piece.close()
