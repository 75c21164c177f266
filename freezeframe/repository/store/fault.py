"""From what the operating system says to what a user can act on."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING

from freezeframe.repository.errors import ObjectDamaged, RepositoryFull, RepositoryNotReadable, RepositoryNotWritable
from freezeframe.repository.layout import object_bytes_max

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

#: What a file system says of bytes that its device cannot give back. Anything else (permission, a stale mount) says nothing of
#: the object.
_MEDIUM = {errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.EREMOTEIO}


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """Turn an OSError into RepositoryFull or RepositoryNotWritable, naming the file where the error does."""
    try:
        yield
    except OSError as error:
        place = error.filename or root
        if error.errno in _FULL:
            raise RepositoryFull(f"The repository at {root} is full: {error.strerror}.") from error
        raise RepositoryNotWritable(f"Writing to {place} failed: {error.strerror or error}.") from error


def check_length(name: str, stored_bytes: int, place: str) -> None:
    """Before an object is read in one piece. Raises ObjectDamaged for one that is longer than any of its kind."""
    if stored_bytes > object_bytes_max(name):
        raise ObjectDamaged(f"Object {place} has {stored_bytes} bytes, and none like it may have so many.")


@contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """Turn an OSError into RepositoryNotReadable."""
    try:
        yield
    except OSError as error:
        raise not_readable(path, error) from error


def of_the_medium(error: RepositoryNotReadable) -> bool:
    """Return True if the device has lost the bytes: reading them again cannot help."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in _MEDIUM


def not_there(error: RepositoryNotReadable) -> bool:
    """Return True if there is no such folder. Of anything else that cannot be listed, nobody knows what is in it."""
    return isinstance(error.__cause__, FileNotFoundError)


def not_readable(path: Path | str, error: OSError) -> RepositoryNotReadable:
    return RepositoryNotReadable(f"Reading {path} failed: {error.strerror or error}.")
