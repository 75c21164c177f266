"""Indexes: one disk at one instant, a digest for every slot. Always complete; an incremental starts from its parent's.

         parent   │ a │ b │ c │ 0 │        dirty: slots 1 and 3
         capture  │ a │ B │ c │ D │        reads alone, whatever becomes of the parent

An index file is a header (`header.py`) and the slot table as one zstd frame, and is known by the SHA-256 of all of it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, Self

from freezeframe.repository import zstd
from freezeframe.repository.errors import IndexDamaged, ObjectDamaged, ParentUnfit, RepositoryNotReadable
from freezeframe.repository.header import IndexHeader, read_header
from freezeframe.repository.layout import DIGEST_BYTES, ZERO_DIGEST
from freezeframe.repository.objects import unreadable_index
from freezeframe.repository.table import SlotTable
from freezeframe.repository.temporary import failed, temporary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from freezeframe.repository.objects import Objects

_PIECE_BYTES: Final = 1 << 20


@dataclass
class Index:
    """A disk's index, verified. A context manager: closing it frees its table's temporary file."""

    digest: bytes
    header: IndexHeader
    table: SlotTable

    def digest_at(self, slot: int) -> bytes | None:
        """The digest of a slot's chunk; None for a hole. Raises IndexError beyond the disk."""
        digest = self.table.get(slot)
        return None if digest == ZERO_DIGEST else digest

    def used_slots(self, first: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Every slot from `first` to before `end`, or of all, that has a chunk, with the chunk's digest, in order."""
        return self.table.used(first, end)

    def close(self) -> None:
        self.table.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_began(index: Index, checkpoint: str | None) -> None:
    """Raises ParentUnfit for the index of a capture that began another checkpoint, if it is known which is wanted."""
    if checkpoint is not None and index.header.checkpoint != checkpoint:
        raise ParentUnfit(
            f"The parent's index began checkpoint {index.header.checkpoint}, and changes are known since {checkpoint}."
        )


def load_index(objects: Objects, digest: bytes, keep: BinaryIO | None = None) -> Index:
    """Return the index of that digest, verified, from wherever it is sound. Raises IndexDamaged if it is nowhere.

    `keep`: a temporary file, in which the index file is left.
    """
    try:
        return _load_first(objects, digest, keep)
    except (IndexDamaged, RepositoryNotReadable) as error:
        name = objects.protection.index_name(digest)
        return objects.elsewhere(name, lambda place: index_at(objects, place, digest, keep), error)


def _load_first(objects: Objects, digest: bytes, keep: BinaryIO | None) -> Index:
    try:
        with objects.open_index(digest) as source:
            return read_index(source if keep is None else _kept(source, keep), digest)
    except ObjectDamaged as error:
        raise unreadable_index(digest.hex(), error) from error


def index_at(objects: Objects, place: str, digest: bytes, keep: BinaryIO | None = None) -> Index:
    """Return an index, verified, from one place. Raises IndexDamaged, ObjectNotFound and ObjectDamaged."""
    name = objects.protection.index_name(digest)
    with objects.store.open(place) as source, objects.protection.reveal_stream(name, source) as plain:
        return read_index(plain if keep is None else _kept(plain, keep), digest)


def _kept(source: BinaryIO, keep: BinaryIO) -> BinaryIO:
    """Copy the bytes of `source` into the file, and return the file."""
    with temporary():
        keep.seek(0)
        keep.truncate()
    while piece := source.read(_PIECE_BYTES):
        with temporary():
            keep.write(piece)
    with temporary():
        keep.seek(0)
    return keep


def read_index(source: BinaryIO, digest: bytes) -> Index:
    """The index in `source`, which is seekable, verified. Raises IndexDamaged and, from `source`, ObjectDamaged."""
    name = digest.hex()
    # the name first: until the bytes are known to be the writer's, nothing they say about sizes is believed
    if hashlib.file_digest(source, "sha256").digest() != digest:  # type: ignore[arg-type]  # a BinaryIO is enough
        raise IndexDamaged(f"Index {name} has other bytes than were written.")
    source.seek(0)
    header = read_header(source, name)
    return Index(digest, header, _decoded(header, source, name))


def _decoded(header: IndexHeader, source: BinaryIO, name: str) -> SlotTable:
    table = SlotTable(header.slots)
    try:
        _decode(table, source, header.content)
        _check_kept(table, header.content)
    except (zstd.ZstdError, EOFError, ValueError) as error:
        table.close()
        raise IndexDamaged(f"Index {name} does not decode: {error}.") from error
    except BaseException:
        table.close()
        raise
    return table


def _check_kept(table: SlotTable, content: bytes) -> None:
    """Raise TemporaryStorageFailed if the table's file has other bytes than were decoded: that is no damage of the index."""
    if table.sha256() != content:
        raise failed("the table of an index has other bytes than were written")


def _decode(table: SlotTable, source: BinaryIO, content: bytes) -> None:
    """Fill the table in pieces of bounded size. `content`: the SHA-256 that it must have.

    Raises ZstdError, EOFError or ValueError for what is not that table.
    """
    unpacking, state = zstd.ZstdDecompressor(options=zstd.BOUNDED), hashlib.sha256()
    offset = 0
    while not unpacking.eof:
        packed = source.read(_PIECE_BYTES) if unpacking.needs_input else b""
        if unpacking.needs_input and not packed:
            raise EOFError("the slot table is cut short")
        piece = unpacking.decompress(packed, _PIECE_BYTES)
        table.fill(offset, piece)
        state.update(piece)
        offset += len(piece)
    if unpacking.unused_data or source.read(1) or offset != table.slots * DIGEST_BYTES:
        raise ValueError("the slot table does not end where it should")
    if state.digest() != content:
        raise ValueError("the slot table is another than the header says")
