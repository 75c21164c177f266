"""A file's handle, by name_to_handle_at(2): it holds the inode's generation, which the next file with that inode has not.

For file systems that keep no birth time: NFS with most servers, ext4 with inodes of 128 bytes, XFS of version 4. The handle of
a file on NFS embeds that of its server, so it is the same on each host. [linux fs/nfs/export.c: nfs_encode_fh]
FUSE has handles too; they count its own nodes, which another file gets after the next mount. [linux fs/fuse/inode.c]
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Final

_AT_FDCWD: Final = -100
_AT_SYMLINK_FOLLOW: Final = 0x400
#: struct file_handle: handle_bytes (4), handle_type (4), then the handle. [linux/fcntl.h, MAX_HANDLE_SZ]
_MOST_BYTES: Final = 128
#: File systems whose handles hold a generation, by statfs's f_type. [linux/magic.h]
_WITH_GENERATION: Final = frozenset(
    {
        0x6969,  # NFS
        0xEF53,  # ext2, ext3, ext4
        0x58465342,  # XFS
        0x9123683E,  # btrfs
        0x2FC12FC1,  # ZFS
        0x01161970,  # GFS2
        0x7461636F,  # OCFS2
        0x01021994,  # tmpfs
    }
)
#: struct statfs is 120 bytes, and begins with f_type, a long.
_STATFS_BYTES: Final = 256
_libc = ctypes.CDLL(None, use_errno=True)


def file_handle(path: str) -> str:
    """Return the handle of a file in hex, with its type. Raises OSError, also for a file system whose handles prove nothing."""
    if file_system_type(path) not in _WITH_GENERATION:
        raise OSError(errno.EOPNOTSUPP, "its file system keeps neither birth times nor generations of files", path)
    buffer = ctypes.create_string_buffer(struct.pack("=I", _MOST_BYTES), 8 + _MOST_BYTES)
    mount = ctypes.c_int()
    _checked(
        _libc.name_to_handle_at(_AT_FDCWD, os.fsencode(path), buffer, ctypes.byref(mount), _AT_SYMLINK_FOLLOW), path
    )
    length, kind = struct.unpack_from("=Ii", buffer, 0)
    return f"{kind}:{buffer.raw[8 : 8 + length].hex()}"


def file_system_type(path: str) -> int:
    """Return the kind of a path's file system, by statfs's f_type. Raises OSError."""
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    _checked(_libc.statfs(os.fsencode(path), buffer), path)
    (kind,) = struct.unpack_from("@l", buffer, 0)
    return int(kind)


def _checked(result: int, path: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
