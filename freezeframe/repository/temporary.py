"""Temporary files of a repository's tables: without a name, in the directory that is configured (`freezeframe/temporary.py`).

What they take at 512 KiB a chunk, for each TiB of disk: 64 MiB for an index that is open, and as much for one that is copied.
"""

from __future__ import annotations

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
        directory = temporary_directory()
        raise TemporaryStorageFailed(f"A temporary file in {directory} failed: {error.strerror}.") from error


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


def check_temporary() -> None:
    """Write to a temporary file. Raises TemporaryStorageFailed and SettingsError."""
    with temporary(), temporary_file() as file:
        file.write(bytes(4096))
        file.flush()
