"""Sealed objects that are too large to be in memory: written and read as streams, a segment at a time."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO, cast

from freezeframe.repository.crypto.cipher import (
    HEADER_BYTES,
    SEGMENT_BYTES,
    STORED_SEGMENT_BYTES,
    ObjectCipher,
    plain_bytes_of,
    segment_count,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Buffer


def sealing(cipher: ObjectCipher, name: str, source: BinaryIO) -> BinaryIO:
    """Return what `source` has from its place on, as a sealed object. Does not close `source`.

    It can be read again from its beginning on, and nothing else can be sought; it is then sealed anew, with other bytes.
    """
    start = source.tell()

    def pieces() -> Iterator[bytes | bytearray]:
        source.seek(start)
        return _sealed(cipher, name, source)

    return cast("BinaryIO", io.BufferedReader(_Pieces(pieces)))


def unsealing(cipher: ObjectCipher, name: str, source: BinaryIO) -> BinaryIO:
    """The bytes in a sealed object, seekable; closes `source` with it. Raises ObjectDamaged, also from every read."""
    return cast("BinaryIO", io.BufferedReader(_Unsealed(cipher, name, source)))


def _sealed(cipher: ObjectCipher, name: str, source: BinaryIO) -> Iterator[bytes | bytearray]:
    segments = cipher.begin(name)
    yield segments.header
    number, data = 0, source.read(SEGMENT_BYTES)
    while True:
        following = source.read(SEGMENT_BYTES)
        yield segments.seal(number, data, last=not following)
        if not following:
            return
        number, data = number + 1, following


class _Pieces(io.RawIOBase):
    """An iterator of bytes as a file. `begin` makes it, and makes another to begin again."""

    def __init__(self, begin: Callable[[], Iterator[bytes | bytearray]]) -> None:
        self._begin = begin
        self.seek(0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if (offset, whence) != (0, io.SEEK_SET):
            raise io.UnsupportedOperation("only to the beginning")
        self._pieces = self._begin()
        self._rest: bytes | bytearray = b""
        self._at = self._told = 0
        return 0

    def tell(self) -> int:
        return self._told

    def readinto(self, buffer: Buffer) -> int:
        while self._at == len(self._rest):
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest, self._at = piece, 0
        count = _copy(self._rest, self._at, buffer)
        self._at += count
        self._told += count
        return count


class _Unsealed(io.RawIOBase):
    """The bytes of a sealed object; the segment that was read last is kept."""

    def __init__(self, cipher: ObjectCipher, name: str, source: BinaryIO) -> None:
        stored_bytes = source.seek(0, io.SEEK_END)
        source.seek(0)
        self._segments = cipher.begun(name, source.read(HEADER_BYTES))
        self._source = source
        self._last = segment_count(stored_bytes - HEADER_BYTES, STORED_SEGMENT_BYTES) - 1
        self._size = plain_bytes_of(stored_bytes)
        self._at = 0
        self._number = -1
        self._data = b""
        if self._size == 0:
            self._load(0)  # that there is nothing must have been written, too

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Buffer) -> int:
        if self._at >= self._size:
            return 0
        self._load(self._at // SEGMENT_BYTES)
        count = _copy(self._data, self._at % SEGMENT_BYTES, buffer)
        self._at += count
        return count

    def close(self) -> None:
        self._source.close()
        super().close()

    def _load(self, number: int) -> None:
        if number != self._number:
            self._source.seek(HEADER_BYTES + number * STORED_SEGMENT_BYTES)
            stored = self._source.read(STORED_SEGMENT_BYTES)
            self._data = self._segments.unseal(number, stored, last=number == self._last)
            self._number = number


def _copy(data: bytes | bytearray, at: int, buffer: Buffer) -> int:
    """Fill the buffer from `data[at:]` as far as either goes; how many bytes that were."""
    view = memoryview(buffer).cast("B")
    count = min(len(view), len(data) - at)
    view[:count] = memoryview(data)[at : at + count]
    return count
