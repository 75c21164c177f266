"""What manifests refer to: read from every index, once each, and stopped by the first that cannot be read.

capture 1   │ a │ b │ c │ d │        of one disk's captures, oldest first, only blocks that differ
capture 2   │   │ B │   │   │        from the capture before are looked at
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Final, Self

from freezeframe.repository.errors import (
    CollectionStopped,
    IndexDamaged,
    ManifestNotReadable,
    ManifestUnreadable,
    NewerFormat,
    ObjectNotFound,
)
from freezeframe.repository.garbage.marks import Marks
from freezeframe.repository.layout import CHUNKS, INDEXES, digest_of

if TYPE_CHECKING:
    from freezeframe.repository.index import Index
    from freezeframe.repository.manifest import Manifest
    from freezeframe.repository.repository import Repository
    from freezeframe.repository.table import SlotTable

#: 128 digests: a scattered 1 % of dirty slots leaves a quarter of the blocks as they were; comparing costs next to nothing.
_BLOCK_BYTES: Final = 4096


@dataclass(frozen=True)
class References:
    """A context manager: closing it frees its temporary files."""

    captures: int
    chunks: Marks
    indexes: Marks

    def keys(self, kind: str, first: int) -> set[bytes]:
        """The keys of chunks or indexes that begin with that byte."""
        return (self.chunks if kind == CHUNKS else self.indexes).keys(first)

    def close(self) -> None:
        self.chunks.close()
        self.indexes.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_references(repository: Repository, on_index: Callable[[int, int], None]) -> References:
    """All that the manifests refer to which are visible now. `on_index` is told how many indexes are read, of how many.

    Raises CollectionStopped if a manifest or an index is damaged, NewerFormat if one is newer, RepositoryNotReadable.
    """
    return references_of(repository, _manifests(repository), on_index)


def references_of(
    repository: Repository, manifests: list[Manifest], on_index: Callable[[int, int], None] = lambda *_: None
) -> References:
    """Return the objects of some manifests. Indexes that are damaged are passed over if all their captures are forgotten.

    One that a newer version has written never is: raises NewerFormat.
    """
    captures_of, lines = _by_disk(manifests)
    protection = repository.objects.protection
    found = References(
        len(manifests),
        chunks=Marks(lambda digest: protection.key(CHUNKS, digest)),
        indexes=Marks(lambda digest: protection.key(INDEXES, digest)),
    )
    try:
        done = 0
        for digest in captures_of:
            found.indexes.add(digest_of(digest))
        for line in lines:
            for index, before in _indexes(repository, line, captures_of):
                for block in _differing(index.table, before.table if before else None):
                    found.chunks.add(block)
                done += 1
                on_index(done, len(captures_of))
    except BaseException:
        found.close()
        raise
    return found


def _manifests(repository: Repository) -> list[Manifest]:
    """Oldest first."""
    damaged: list[ManifestUnreadable] = []
    manifests = repository.manifests(on_damaged=damaged.append)
    for error in damaged:
        if isinstance(error, NewerFormat):  # which is no reason to forget anything
            raise NewerFormat(f"{error.message} Nothing was collected.") from error
        if isinstance(error, ManifestNotReadable):  # nor is that the storage refuses it
            raise ManifestNotReadable(f"{error.message} Nothing was collected.", transient=error.transient) from error
    if damaged:
        more = f" {len(damaged) - 1} others cannot be read either." if len(damaged) > 1 else ""
        raise CollectionStopped(f"{damaged[0].message}{more} Nothing was collected.") from damaged[0]
    return manifests[::-1]


def _by_disk(manifests: list[Manifest]) -> tuple[dict[str, list[str]], list[list[str]]]:
    """The captures of each index; and the indexes of each disk, oldest first, every index once."""
    captures_of: dict[str, list[str]] = defaultdict(list)
    lines: dict[tuple[str, str], list[str]] = defaultdict(list)
    for manifest in manifests:
        for guest, disk in manifest.disks():
            if disk.index not in captures_of:
                lines[guest.guest_uuid, disk.target].append(disk.index)
            captures_of[disk.index].append(manifest.capture_id)
    return captures_of, list(lines.values())


def _indexes(
    repository: Repository, line: list[str], captures_of: dict[str, list[str]]
) -> Iterator[tuple[Index, Index | None]]:
    """Each index of a disk with the one before it; open until the next is asked for."""
    before: Index | None = None
    try:
        for digest in line:
            index = _load(repository, digest, captures_of[digest])
            if index is not None:
                try:
                    yield index, before
                finally:
                    if before is not None:
                        before.close()
                    before = index
    finally:
        if before is not None:
            before.close()


def _load(repository: Repository, digest: str, captures: list[str]) -> Index | None:
    """None if its captures are all forgotten."""
    try:
        return repository.index(digest)
    except NewerFormat as error:
        raise NewerFormat(f"{error.message} It belongs to {', '.join(captures)}. Nothing was collected.") from error
    except IndexDamaged as error:
        there = [one for one in captures if _is_there(repository, one)]
        if not there:
            return None
        raise CollectionStopped(
            f"{error.message} It belongs to {', '.join(there)}. Nothing was collected.",
        ) from error


def _is_there(repository: Repository, capture_id: str) -> bool:
    try:
        repository.objects.manifest(capture_id)
    except ObjectNotFound:
        return False
    except ManifestUnreadable:
        return True
    return True


def _differing(table: SlotTable, before: SlotTable | None) -> Iterator[bytes]:
    """The blocks of a table that are not the same, at the same place, in the table before it."""
    for piece, known in zip_longest(table.pieces(), before.pieces() if before else ()):
        if piece is None:
            return
        if piece != known:
            for at in range(0, len(piece), _BLOCK_BYTES):
                block = piece[at : at + _BLOCK_BYTES]
                if known is None or block != known[at : at + _BLOCK_BYTES]:
                    yield block
