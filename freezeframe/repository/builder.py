"""Making an index: set the slots, then store it once every chunk is settled."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO, Final, Self

from freezeframe.repository import zstd
from freezeframe.repository.errors import ParentUnfit
from freezeframe.repository.header import IndexHeader
from freezeframe.repository.table import SlotTable
from freezeframe.repository.temporary import check_written, failed, temporary, temporary_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from freezeframe.repository.index import Index
    from freezeframe.repository.objects import Objects

_LEVEL: Final = 1  # only the zeros compress


class IndexBuilder:
    """The index of a disk of `size_bytes`, a copy of `parent` if there is one, all holes if not. A context manager.

    `set` and `set_zero` may be called by many threads, for different slots. Raises ParentUnfit for a parent of another
    size or chunk size, and TemporaryStorageFailed.
    """

    def __init__(
        self,
        size_bytes: int,
        chunk_bytes: int,
        *,
        parent: Index | None = None,
        checkpoint: str | None = None,
    ) -> None:
        parent_digest = None if parent is None else parent.digest
        self.header = IndexHeader(size_bytes, chunk_bytes, parent=parent_digest, checkpoint=checkpoint)
        if parent is not None:
            _check_fits(parent.header, self.header)
        self._table = SlotTable(self.header.slots)
        if parent is not None:
            try:
                self._copy(parent)
            except BaseException:
                self.close()
                raise

    def set(self, slot: int, digest: bytes) -> None:
        self._table.set(slot, digest)

    def set_zero(self, slot: int, count: int = 1) -> None:
        """Make `count` slots from `slot` on holes."""
        self._table.clear(slot, count)

    def used_slots(self) -> Iterator[tuple[int, bytes]]:
        """Every slot that has a chunk so far, with the chunk's digest, in order."""
        return self._table.used()

    def store(self, objects: Objects) -> tuple[bytes, int]:
        """Store the index, settled when this returns. Its digest and its stored length in bytes.

        Every chunk that it refers to must be settled before.
        """
        self._table.check_written()
        header = replace(self.header, content=self._table.sha256())
        # what is left in its buffer is written by `seek`, or by closing it after an error
        with temporary(), temporary_file() as file:
            digest = _write_encoded(header, self._table, file)
            check_written(file)
            length = objects.protection.stored_bytes(file.tell())
            file.seek(0)
            name = objects.protection.index_name(digest)
            objects.store.put(name, objects.protection.protect_stream(name, file))
        return digest, length

    def close(self) -> None:
        self._table.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _copy(self, parent: Index) -> None:
        offset, state = 0, hashlib.sha256()
        for piece in parent.table.pieces():
            self._table.fill(offset, piece)
            state.update(piece)
            offset += len(piece)
        if state.digest() != parent.header.content:
            raise failed("the table of the parent's index has other bytes than were written")


def _check_fits(parent: IndexHeader, own: IndexHeader) -> None:
    if (parent.size_bytes, parent.chunk_bytes) != (own.size_bytes, own.chunk_bytes):
        raise ParentUnfit(
            f"The parent's index has {parent.size_bytes} bytes in chunks of {parent.chunk_bytes}, "
            f"the disk {own.size_bytes} in chunks of {own.chunk_bytes}."
        )


def _write_encoded(header: IndexHeader, table: SlotTable, file: BinaryIO) -> bytes:
    """Write the index file; its digest."""
    state = hashlib.sha256()
    for piece in _encoded(header, table):
        state.update(piece)
        file.write(piece)
    return state.digest()


def _encoded(header: IndexHeader, table: SlotTable) -> Iterator[bytes]:
    yield header.pack()
    packing = zstd.ZstdCompressor(_LEVEL)
    for piece in table.pieces():
        yield packing.compress(piece)
    yield packing.flush()
