"""Temporary files of a repository's tables: without a name, in the directory that is configured (`freezeframe/temporary.py`).

What they take at 512 KiB a chunk, for each TiB of disk: 64 MiB for an index that is open, and as much for one that is copied.
"""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from freezeframe.repository.errors import TemporaryStorageFailed
from freezeframe.temporary import temporary_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX: Final = "freezeframe-"


@contextmanager
def temporary() -> Iterator[None]:
    """Turn an OSError of a temporary file into TemporaryStorageFailed."""
    try:
        yield
    except OSError as error:
        raise failed(str(error.strerror)) from error


def failed(reason: str) -> TemporaryStorageFailed:
    """Return the error of a temporary file."""
    return TemporaryStorageFailed(f"A temporary file in {temporary_directory()} failed: {reason}.")


def temporary_file() -> BinaryIO:
    """Return a new file, which is gone when it is closed. Raises TemporaryStorageFailed and SettingsError."""
    directory = temporary_directory()
    with temporary():
        # the cast leaves out what only the stubs know
        return cast("BinaryIO", tempfile.TemporaryFile(prefix=_PREFIX, dir=directory))


def spooled_file(in_memory_bytes: int) -> BinaryIO:
    """Return the same, but in memory up to a length. Raises SettingsError; each write may raise OSError."""
    directory = str(temporary_directory())
    return cast("BinaryIO", tempfile.SpooledTemporaryFile(in_memory_bytes, prefix=_PREFIX, dir=directory))


def write_all(file: BinaryIO, data: bytes | bytearray, offset: int) -> None:
    """Write all of `data`. Raises TemporaryStorageFailed.

    Where room ends in the middle the system writes a part and says so in the count alone; what is left out would read as zeros.
    """
    rest = memoryview(data)
    with temporary():
        while rest:
            written = os.pwrite(file.fileno(), rest, offset)
            if not written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            rest, offset = rest[written:], offset + written


def read_all(file: BinaryIO, length: int, offset: int) -> bytes:
    """Read so many bytes, which are there. Raises TemporaryStorageFailed, also if they are not."""
    with temporary():
        found = os.pread(file.fileno(), length, offset)
        while len(found) < length:
            more = os.pread(file.fileno(), length - len(found), offset + len(found))
            if not more:
                raise OSError(errno.EIO, "it is shorter than what was written to it")
            found += more
        return found


def check_written(file: BinaryIO) -> None:
    """Raise TemporaryStorageFailed if the device has lost anything of what was written, which it may tell of late."""
    with temporary():
        file.flush()
        os.fdatasync(file.fileno())


def check_temporary() -> None:
    """Write to a temporary file. Raises TemporaryStorageFailed and SettingsError."""
    with temporary(), temporary_file() as file:
        file.write(bytes(4096))
        file.flush()
