"""Objects on their way into a directory: written to `tmp/`, made durable, then shown under their names."""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezeframe.repository.layout import TMP
from freezeframe.repository.store import replies
from freezeframe.repository.store.fault import writing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from typing_extensions import Buffer

    from freezeframe.repository.store.filesystem import Filesystem


@dataclass
class _Staged:
    """An object that is not visible yet."""

    name: str
    path: str
    fd: int | None  # None once it is durable, and closed
    status: os.stat_result  # tells it from any other file


class Staging:
    """One batch. Made by `staging`, which takes away again what is left of it after an error."""

    def __init__(self, root: Path, filesystem: Filesystem) -> None:
        self._root = str(root)
        self._fs = filesystem
        self._staged: list[_Staged] = []
        self._stem = secrets.token_hex(12)
        self._made = 0

    def write(self, name: str, data: Buffer) -> str:
        """Write an object to `tmp/`, and let the device begin with it; where it is."""
        path, fd = self._stage(name)
        self._fs.write_new(fd, data)
        return path

    def write_pieces(self, name: str, pieces: Iterable[bytes]) -> None:
        """As `write`, for what need not be in memory at once."""
        _, fd = self._stage(name)
        offset = 0
        for piece in pieces:
            self._fs.write(fd, piece, offset)
            offset += len(piece)
        self._fs.start_writeback(fd)

    def make_durable(self) -> None:
        for one in self._staged:
            if one.fd is not None:
                self._fs.fsync(one.fd)
            self._close(one)

    def show(self) -> None:
        """Give all of them their names, once all are durable. Whoever needs them settled settles their folders."""
        self.make_durable()
        for one in self._staged:
            replies.rename(self._fs, one.path, f"{self._root}/{one.name}", one.status)

    def temporary(self) -> str:
        """A new path in `tmp/`, unique over all hosts without asking any: a random stem for each batch, and a number."""
        self._made += 1
        return f"{self._root}/{TMP}/{self._stem}{self._made:08x}"

    def discard(self) -> None:
        """Take away what is in `tmp/`, as far as the file system lets us."""
        for one in self._staged:
            with suppress(OSError):
                self._close(one)
            with suppress(OSError):
                self._fs.unlink(one.path)

    def _stage(self, name: str) -> tuple[str, int]:
        path = self.temporary()
        try:
            fd = self._fs.create(path)
        except FileExistsError:  # made, and the reply lost: nobody else has this name
            replies.unlink(self._fs, path)
            fd = self._fs.create(path)
        self._staged.append(_Staged(name, path, fd, os.fstat(fd)))
        return path, fd

    def _close(self, one: _Staged) -> None:
        if one.fd is not None:
            fd, one.fd = one.fd, None
            self._fs.close(fd)


@contextmanager
def staging(root: Path, filesystem: Filesystem) -> Iterator[Staging]:
    """A batch of objects for the store in `root`. Raises RepositoryFull and RepositoryNotWritable."""
    batch = Staging(root, filesystem)
    try:
        with writing(root):
            yield batch
    except Exception:
        batch.discard()
        raise
