"""statx(2), for a file's birth time, which Python's os.stat does not tell."""

from __future__ import annotations

import ctypes
import os
import struct
from dataclasses import dataclass

_AT_FDCWD = -100
_STATX_INO, _STATX_BTIME = 0x100, 0x800
#: struct statx is 256 bytes: stx_mask, …, stx_ino at 32, stx_btime (seconds, nanoseconds) at 80. [linux/stat.h]
_BYTES = 256
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Born:
    """A file's inode number and when it was made; `birth_ns` is None where the file system does not keep that."""

    inode: int
    birth_ns: int | None


def statx(path: str) -> Born:
    """Raises OSError."""
    buffer = ctypes.create_string_buffer(_BYTES)
    if _libc.statx(_AT_FDCWD, os.fsencode(path), 0, _STATX_INO | _STATX_BTIME, buffer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    (mask,) = struct.unpack_from("=I", buffer, 0)
    (inode,) = struct.unpack_from("=Q", buffer, 32)
    seconds, nanoseconds = struct.unpack_from("=qI", buffer, 80)
    return Born(inode, seconds * 1_000_000_000 + nanoseconds if mask & _STATX_BTIME else None)
