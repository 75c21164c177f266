"""A slot table: one digest for every slot of a disk, in a sparse temporary file.

        file   │ 32 bytes │          │ 32 bytes │ …        1 TiB at 512 KiB a chunk: 64 MiB long, and as large on
        slot        0      1 (hole)       2                disk as what was set, in file system blocks

Read and written by pread and pwrite rather than through a mapping: a mapped page that finds no space kills the process
(SIGBUS) where a write gives an error. No page of it belongs to the process, so its memory is bounded whatever the disk. What
is set is gathered a little while, and neighbours written at once: a call a chunk would let go of the GIL a time too often.
"""

from __future__ import annotations

import hashlib
import struct
import threading
from itertools import chain
from typing import TYPE_CHECKING, Final

from freezeframe.repository.layout import DIGEST_BYTES, ZERO_DIGEST
from freezeframe.repository.temporary import check_written, read_all, temporary, temporary_file, write_all

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE_SLOTS: Final = 1 << 15  # 1 MiB at a time
_GATHERED: Final = 256  # digests
_BLOCK_BYTES: Final = 4096  # what a file system keeps or leaves out
_ZEROS: Final = bytes(_PIECE_SLOTS * DIGEST_BYTES)
_SLOT: Final = struct.Struct(f"{DIGEST_BYTES}s")


def slots_in(piece: bytes) -> Iterator[bytes]:
    """The digest of each slot in a piece of a table, holes too."""
    return chain.from_iterable(_SLOT.iter_unpack(piece))


def digests_in(piece: bytes) -> list[bytes]:
    """The digest of each slot in a piece of a table that is not a hole."""
    if piece == _ZEROS[: len(piece)]:
        return []
    if ZERO_DIGEST not in piece:  # found at any byte, so some pieces without a hole are looked through too
        return list(slots_in(piece))
    return [digest for digest in slots_in(piece) if digest != ZERO_DIGEST]


class SlotTable:
    """`slots` digests, all zero at first. Threads may set and get different slots at once.

    Raises TemporaryStorageFailed.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._file = temporary_file()  # closed by close()
        with temporary():
            self._file.truncate(slots * DIGEST_BYTES)
        self._gathered: dict[int, bytes] = {}
        self._lock = threading.Lock()

    def get(self, slot: int) -> bytes:
        self._check(slot, 1)
        return self._read(DIGEST_BYTES, slot * DIGEST_BYTES)

    def set(self, slot: int, digest: bytes) -> None:
        self._check(slot, 1)
        if len(digest) != DIGEST_BYTES:
            raise ValueError(f"a digest of {len(digest)} bytes")
        with self._lock:
            self._gathered[slot] = digest
            if len(self._gathered) >= _GATHERED:
                self._flush()

    def clear(self, slot: int, count: int = 1) -> None:
        """Make `count` slots holes. What is one already is not touched, so that the file stays sparse."""
        self._check(slot, count)
        for first in range(slot, slot + count, _PIECE_SLOTS):
            length = min(_PIECE_SLOTS, slot + count - first) * DIGEST_BYTES
            if self._read(length, first * DIGEST_BYTES) != _ZEROS[:length]:
                self._write(first * DIGEST_BYTES, _ZEROS[:length])

    def fill(self, offset: int, data: bytes) -> None:
        """Write a part of a new table as bytes, zero blocks left out. Raises ValueError beyond its end."""
        if offset + len(data) > self.slots * DIGEST_BYTES:
            raise ValueError("more digests than slots")
        begin = 0
        for at in range(0, len(data), _BLOCK_BYTES):
            block = data[at : at + _BLOCK_BYTES]
            if block == _ZEROS[: len(block)]:
                self._write_some(offset + begin, data[begin:at])
                begin = at + len(block)
        self._write_some(offset + begin, data[begin:])

    def pieces(self, first: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The slots from `first` to before `end`, or all, in order, in pieces of at most 1 MiB, each of whole digests."""
        last = (self.slots if end is None else end) * DIGEST_BYTES
        for offset in range(first * DIGEST_BYTES, last, len(_ZEROS)):
            yield self._read(min(len(_ZEROS), last - offset), offset)

    def used(self, first: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Every slot from `first` to before `end`, or of all, that is not a hole, with its digest, in order."""
        for piece in self.pieces(first, end):
            if piece != _ZEROS[: len(piece)]:
                for at in range(0, len(piece), DIGEST_BYTES):
                    digest = piece[at : at + DIGEST_BYTES]
                    if digest != ZERO_DIGEST:
                        yield first + at // DIGEST_BYTES, digest
            first += len(piece) // DIGEST_BYTES

    def first_used(self, first: int, end: int) -> int | None:
        """The first slot from `first` to before `end` that is not a hole; holes are passed over by the megabyte."""
        return next((slot for slot, _ in self.used(first, end)), None)

    def check_written(self) -> None:
        """Raise TemporaryStorageFailed if the temporary file has lost anything that was set."""
        with self._lock:
            self._flush()
        check_written(self._file)

    def sha256(self) -> bytes:
        state = hashlib.sha256()
        for piece in self.pieces():
            state.update(piece)
        return state.digest()

    def close(self) -> None:
        self._file.close()

    def _flush(self) -> None:
        """Write what was gathered, neighbours at once. The caller has the lock."""
        slots, first = sorted(self._gathered), 0
        for at, slot in enumerate(slots, 1):
            if at == len(slots) or slots[at] != slot + 1:
                self._write(slots[first] * DIGEST_BYTES, b"".join(self._gathered[one] for one in slots[first:at]))
                first = at
        self._gathered.clear()  # not before: after an error none may be taken for a hole

    def _read(self, length: int, offset: int) -> bytes:
        with self._lock:
            self._flush()
        return read_all(self._file, length, offset)

    def _write_some(self, offset: int, data: bytes) -> None:
        if data:
            self._write(offset, data)

    def _write(self, offset: int, data: bytes) -> None:
        write_all(self._file, data, offset)

    def _check(self, slot: int, count: int) -> None:
        if slot < 0 or count < 0 or slot + count > self.slots:
            raise IndexError(f"slot {slot} of {self.slots}")
