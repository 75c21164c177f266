"""statx(2), for what os.stat does not tell: a file's birth time, and what is known of a file without asking its server."""

from __future__ import annotations

import ctypes
import os
import struct
from dataclasses import dataclass

_AT_FDCWD = -100
_AT_STATX_DONT_SYNC = 0x4000
_STATX_TYPE, _STATX_INO, _STATX_BTIME = 0x1, 0x100, 0x800
#: struct statx is 256 bytes: stx_mask, …, stx_mode at 28, stx_ino at 32, stx_btime (seconds, nanoseconds) at 80, from 128 on
#: the numbers of the device that it is and of the one that it is on, each as major and minor. [linux/stat.h]
_BYTES = 256
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Born:
    """A file's inode number and when it was made; `birth_ns` is None where the file system does not keep that."""

    inode: int
    birth_ns: int | None


@dataclass(frozen=True)
class Cached:
    """The facts that the kernel has of a file or device without asking the server or device that it is on."""

    mode: int
    inode: int
    device: int  # that it is on
    special: int  # that it is


def statx(path: str) -> Born:
    """Raises OSError."""
    buffer = _statx(path, 0, _STATX_INO | _STATX_BTIME)
    (mask,) = struct.unpack_from("=I", buffer, 0)
    (inode,) = struct.unpack_from("=Q", buffer, 32)
    seconds, nanoseconds = struct.unpack_from("=qI", buffer, 80)
    return Born(inode, seconds * 1_000_000_000 + nanoseconds if mask & _STATX_BTIME else None)


def cached(path: str) -> Cached:
    """Return what the kernel remembers, also if the server is away or the file's handle is stale. Raises OSError."""
    buffer = _statx(path, _AT_STATX_DONT_SYNC, _STATX_TYPE | _STATX_INO)
    mode, inode = struct.unpack_from("=H2xQ", buffer, 28)
    special, device = (os.makedev(*struct.unpack_from("=II", buffer, at)) for at in (128, 136))
    return Cached(mode, inode, device, special)


def _statx(path: str, flags: int, mask: int) -> ctypes.Array[ctypes.c_char]:
    buffer = ctypes.create_string_buffer(_BYTES)
    if _libc.statx(_AT_FDCWD, os.fsencode(path), flags, mask, buffer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return buffer
