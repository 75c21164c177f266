"""A file or a block device by its descriptor: positioned reads and writes by any thread, zeros without storing them.

Data goes past the page cache where that can be had (freezeframe/direct.py).

    zero     punch a hole ──▶ zero the range ──▶ write zeros          each where the one before is not supported

On a block device a hole is a discard that the device promises to read as zeros, and a zeroed range is what the device can do
about zeros by itself, or zeros that the kernel writes. BLKDISCARD alone promises nothing about what is read then, so it is not
used. [fallocate(2); Linux block/fops.c blkdev_fallocate]
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import Final

from freezeframe.direct import DirectWrites
from workers.restore.partial import writing

_KEEP_SIZE: Final = 1
_PUNCH_HOLE: Final = 2
_ZERO_RANGE: Final = 16
_WAYS: Final = (_PUNCH_HOLE | _KEEP_SIZE, _ZERO_RANGE | _KEEP_SIZE)

_NOT_SUPPORTED: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})

#: Ranges are zeroed in whole blocks of this, which is the page cache's too; edges are written.
_BLOCK_BYTES: Final = 4096
_ZEROS: Final = bytes(1 << 20)

_WRITEBACK: Final = 2  # SYNC_FILE_RANGE_WRITE: begin with it, so that an fsync finds little left to wait for


def _call(name: str, *types: type) -> ctypes._NamedFuncPointer | None:
    call: ctypes._NamedFuncPointer | None = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    if call is not None:
        call.argtypes, call.restype = types, ctypes.c_int
    return call


_fallocate = _call("fallocate", ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_sync_file_range = _call("sync_file_range", ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


class Descriptor:
    """Raises TargetFullError and TargetNotWritableError, which name `path`. Does not own the descriptors.

    `direct_fd`: the same, opened with O_DIRECT, if it can be.
    """

    def __init__(self, fd: int, path: Path, direct_fd: int | None = None) -> None:
        self._fd = fd
        self._direct_fd = direct_fd
        self._direct = DirectWrites()
        self._path = path
        self._ways = list(_WAYS)

    def write(self, offset: int, data: memoryview) -> None:
        with writing(self._path):
            if self._direct_fd is not None:
                done = self._direct.write_open(self._direct_fd, data, offset)
                data, offset = data[done:], offset + done
            self._write(offset, data)
            if data and _sync_file_range is not None:
                _sync_file_range(self._fd, offset, len(data), _WRITEBACK)

    def read(self, offset: int, length: int) -> bytes:
        with writing(self._path):
            data = os.pread(self._fd, length, offset)
            while 0 < len(data) < length:
                more = os.pread(self._fd, length - len(data), offset + len(data))
                if not more:
                    break
                data += more
            return data

    def zero(self, offset: int, length: int) -> None:
        first = -(-offset // _BLOCK_BYTES) * _BLOCK_BYTES
        last = (offset + length) // _BLOCK_BYTES * _BLOCK_BYTES
        if first >= last:
            self._write_zeros(offset, length)
            return
        self._write_zeros(offset, first - offset)
        if not self._allocate(first, last - first):
            self._write_zeros(first, last - first)
        self._write_zeros(last, offset + length - last)

    def truncate(self, length: int) -> None:
        with writing(self._path):
            os.ftruncate(self._fd, length)

    def sync(self) -> None:
        with writing(self._path):
            os.fsync(self._fd)

    def _allocate(self, offset: int, length: int) -> bool:
        """Whether the file system or the device could do it; what it cannot once, it is not asked for again."""
        while self._ways and _fallocate is not None:
            way = self._ways[0]
            if _fallocate(self._fd, way, offset, length) == 0:
                return True
            number = ctypes.get_errno()
            if number == errno.EINTR:
                continue
            if number not in _NOT_SUPPORTED:
                with writing(self._path):
                    raise OSError(number, os.strerror(number))
            if way in self._ways:
                self._ways.remove(way)
        return False

    def _write_zeros(self, offset: int, length: int) -> None:
        with writing(self._path):
            while length > 0:
                piece = min(length, len(_ZEROS))
                self._write(offset, memoryview(_ZEROS)[:piece])
                offset, length = offset + piece, length - piece

    def _write(self, offset: int, data: memoryview) -> None:
        while data:
            written = os.pwrite(self._fd, data, offset)
            data, offset = data[written:], offset + written
