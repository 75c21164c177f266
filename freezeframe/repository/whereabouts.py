"""Which disks of which captures an index or a chunk belongs to: found by reading every index, since nothing else says."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezeframe.repository.errors import IndexDamaged, NewerFormat, RepositoryNotReadable
from freezeframe.repository.table import digests_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from freezeframe.errors import FreezeframeError
    from freezeframe.repository.manifest import Manifest
    from freezeframe.repository.repository import Repository


@dataclass(frozen=True)
class Place:
    """One disk of one capture."""

    capture_id: str
    guest_uuid: str
    guest_name: str
    target: str


def places_of(
    repository: Repository,
    indexes: set[str],
    chunks: set[bytes],
    on_unreadable: Callable[[FreezeframeError], None] = lambda _: None,
) -> dict[str, tuple[Place, ...]]:
    """The places of some indexes (in hex) and some chunks, by their digests in hex, over all captures, newest first.

    Manifests that cannot be read, and indexes that cannot, are given to `on_unreadable`: what they refer to cannot be known.
    """
    return places_in(repository, repository.manifests(on_damaged=on_unreadable), indexes, chunks, on_unreadable)


def places_in(
    repository: Repository,
    manifests: Iterable[Manifest],
    indexes: set[str],
    chunks: set[bytes],
    on_unreadable: Callable[[FreezeframeError], None],
) -> dict[str, tuple[Place, ...]]:
    """Return the places as `places_of`, but over these captures, in their order."""
    disks: dict[str, list[Place]] = defaultdict(list)
    for manifest in manifests:
        for guest, disk in manifest.disks():
            disks[disk.index].append(Place(manifest.capture_id, guest.guest_uuid, guest.name, disk.target))
    found: dict[str, list[Place]] = {one: list(disks.get(one, ())) for one in indexes}
    found.update({one.hex(): [] for one in chunks})
    for digest, places in disks.items():
        for chunk in _used_of(repository, digest, chunks, on_unreadable):
            found[chunk.hex()] += places
    return {one: tuple(places) for one, places in found.items()}


def _used_of(
    repository: Repository, index_digest: str, chunks: set[bytes], on_unreadable: Callable[[FreezeframeError], None]
) -> set[bytes]:
    if not chunks:
        return set()
    try:
        with repository.index(index_digest) as index:
            return set().union(*(chunks.intersection(digests_in(piece)) for piece in index.table.pieces()))
    except (IndexDamaged, NewerFormat, RepositoryNotReadable) as error:
        on_unreadable(error)
        return set()
