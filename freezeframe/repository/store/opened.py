"""Files of a directory store that are being read: an error in the middle of one names the file, as one at its start does."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO, cast

from freezeframe.repository.store.fault import reading

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Buffer


def opened(raw: io.RawIOBase, path: Path) -> BinaryIO:
    """The file at `path`, open as `raw`, which is closed with it. Reading it raises RepositoryNotReadable."""
    return cast("BinaryIO", io.BufferedReader(_Opened(raw, path)))


class _Opened(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, path: Path) -> None:
        self._raw = raw
        self._path = path

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int | None:
        with reading(self._path):
            return cast("io.FileIO", self._raw).readinto(buffer)

    def readall(self) -> bytes:
        with reading(self._path):
            return self._raw.readall()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def close(self) -> None:
        self._raw.close()
        super().close()
