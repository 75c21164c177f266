"""Marks: the keys of all chunks that are referred to, spilled to a temporary file, apart by their first bytes.

 digests ─▶ 256 buffers ─▶ blocks of one file ─▶ the blocks of one first byte as a set, beside the listing of that folder

In memory are the buffers and one set: about a 256th of all. A key is the 32 bytes in an object's name, which is the digest
unless the repository is encrypted. What has grown to twice what it was without repetitions is rid of them, and its blocks are
used again, so that many captures of one disk cost no more than what differs; each key is written a bounded number of times.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import BinaryIO, Final, Self, cast

from freezeframe.repository.layout import DIGEST_BYTES, ZERO_DIGEST
from freezeframe.repository.table import temporary

_BLOCK_BYTES: Final = 16 << 10  # and a buffer for each of the 256: 4 MiB together
_LEAST_BYTES: Final = 1 << 20  # what is less is left as it is


class Marks:
    """A context manager. `key_of` makes keys of digests. Raises TemporaryStorageFailed."""

    def __init__(self, key_of: Callable[[bytes], bytes]) -> None:
        self._key_of = key_of
        self._blocks = _Blocks()
        self._bins = [_Bin(self._blocks) for _ in range(256)]

    def add(self, digests: bytes) -> None:
        """Mark the digests in whole slots of a table; holes are none."""
        key_of, bins = self._key_of, self._bins
        for at in range(0, len(digests), DIGEST_BYTES):
            digest = digests[at : at + DIGEST_BYTES]
            if digest != ZERO_DIGEST:
                key = key_of(digest)
                bins[key[0]].add(key)

    def keys(self, first: int) -> set[bytes]:
        """All that were marked and begin with that byte."""
        return self._bins[first].keys()

    @property
    def file_bytes(self) -> int:
        return self._blocks.end

    def close(self) -> None:
        self._blocks.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Blocks:
    """Blocks of one temporary file, by their places; those that are given back are taken first."""

    def __init__(self) -> None:
        self.end = 0
        self._free: list[int] = []
        self._file: BinaryIO | None = None

    def write(self, data: bytes | bytearray) -> int:
        place = self._free.pop() if self._free else self.end
        self.end = max(self.end, place + len(data))
        with temporary():
            if self._file is None:
                self._file = cast("BinaryIO", tempfile.TemporaryFile(prefix="freezeframe-"))  # noqa: SIM115
            os.pwrite(self._file.fileno(), data, place)
        return place

    def read(self, place: int) -> bytes:
        assert self._file is not None  # noqa: S101  a place is of a block that was written
        with temporary():
            return os.pread(self._file.fileno(), _BLOCK_BYTES, place)

    def give_back(self, places: list[int]) -> None:
        self._free += places

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class _Bin:
    """Keys with one first byte."""

    def __init__(self, blocks: _Blocks) -> None:
        self._blocks = blocks
        self._buffer = bytearray()
        self._places: list[int] = []
        self._distinct_bytes = 0  # when it was last without repetitions

    def add(self, key: bytes) -> None:
        self._buffer += key
        if len(self._buffer) == _BLOCK_BYTES:
            self._spill()
            if len(self._places) * _BLOCK_BYTES > max(_LEAST_BYTES, 2 * self._distinct_bytes):
                self._compact()

    def keys(self) -> set[bytes]:
        data = b"".join([*map(self._blocks.read, self._places), self._buffer])
        return {data[at : at + DIGEST_BYTES] for at in range(0, len(data), DIGEST_BYTES)}

    def _spill(self) -> None:
        self._places.append(self._blocks.write(self._buffer))
        self._buffer.clear()

    def _compact(self) -> None:
        data = b"".join(self.keys())
        self._blocks.give_back(self._places)
        self._places = []
        whole = len(data) - len(data) % _BLOCK_BYTES
        for at in range(0, whole, _BLOCK_BYTES):
            self._places.append(self._blocks.write(data[at : at + _BLOCK_BYTES]))
        self._buffer += data[whole:]
        self._distinct_bytes = len(data)
