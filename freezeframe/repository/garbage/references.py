"""The references of manifests: from every index, once each (`referenced.py`); one that cannot be read stops the reading."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import structlog

from freezeframe.repository.errors import (
    CollectionStopped,
    IndexDamaged,
    ManifestNotReadable,
    ManifestUnreadable,
    NewerFormat,
    ObjectNotFound,
    RepositoryNotReadable,
)
from freezeframe.repository.layout import CHUNKS, INDEXES, digest_of
from freezeframe.repository.marks import Marks
from freezeframe.repository.referenced import lines_of, mark_chunks
from freezeframe.repository.store.fault import of_the_medium

if TYPE_CHECKING:
    from freezeframe.repository.index import Index
    from freezeframe.repository.manifest import Manifest
    from freezeframe.repository.repository import Repository

log = structlog.get_logger("garbage")


@dataclass(frozen=True)
class Unread:
    """An index that cannot be read. All its captures are forgotten, and an incremental may be under way upon any of them."""

    captures: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class References:
    """A context manager: closing it frees its temporary files."""

    captures: int
    chunks: Marks
    indexes: Marks
    unread: dict[str, Unread] = field(default_factory=dict)  # indexes of forgotten captures, by their objects' names

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
    """Return the objects of some manifests. An index that cannot be read is *unread* if all its captures are forgotten.

    Raises CollectionStopped for one of a capture that is there, NewerFormat for one that a newer version has written.
    """
    captures_of = _captures_of(manifests)
    protection = repository.objects.protection
    found = References(
        len(manifests), chunks=Marks(protection.keying(CHUNKS)), indexes=Marks(protection.keying(INDEXES))
    )
    done = 0

    def open_index(digest: str) -> Index | None:
        return _load(repository, digest, captures_of[digest], found.unread)

    def count() -> None:
        nonlocal done
        done += 1
        on_index(done, len(captures_of))

    try:
        found.indexes.add([digest_of(digest) for digest in captures_of])
        mark_chunks(found.chunks, lines_of(manifests), open_index, count)
    except BaseException:
        found.close()
        raise
    return found


def _manifests(repository: Repository) -> list[Manifest]:
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
    return manifests


def _captures_of(manifests: list[Manifest]) -> dict[str, list[str]]:
    """The captures of each index, by its digest."""
    found: dict[str, list[str]] = defaultdict(list)
    for manifest in manifests:
        for _, disk in manifest.disks():
            found[disk.index].append(manifest.capture_id)
    return found


def _load(repository: Repository, digest: str, captures: list[str], unread: dict[str, Unread]) -> Index | None:
    """Return the index, or None for one that is noted as unread."""
    try:
        return repository.index(digest)
    except NewerFormat as error:
        raise NewerFormat(f"{error.message} It belongs to {', '.join(captures)}. Nothing was collected.") from error
    except (IndexDamaged, RepositoryNotReadable) as error:
        if isinstance(error, RepositoryNotReadable) and not of_the_medium(error):
            raise
        there = [one for one in captures if _is_there(repository, one)]
        if not there:
            log.warning("an index of a forgotten capture cannot be read, and holds up deletion", why=error.message)
            name = repository.objects.protection.index_name(digest_of(digest))
            unread[name] = Unread(tuple(captures), error.message)
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
