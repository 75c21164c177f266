"""The objects of a repository: a store, and the protection of what is in it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from freezeframe.repository.chunk import unseal
from freezeframe.repository.condemned import Condemned
from freezeframe.repository.errors import (
    ChunkDamaged,
    IndexDamaged,
    ManifestDamaged,
    ManifestNewer,
    NewerFormat,
    ObjectDamaged,
    ObjectIsNoFile,
    ObjectNotFound,
    RepositoryDamaged,
    RepositoryNotReadable,
)
from freezeframe.repository.layout import DAMAGED, damaged_name, set_aside_stem
from freezeframe.repository.protection import PLAIN, Protection
from freezeframe.repository.store.fault import of_the_medium

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from freezeframe.repository.errors import RepositoryError
    from freezeframe.repository.store.backend import Store

FoundT = TypeVar("FoundT")


@dataclass(frozen=True)
class Objects:
    """Chunks, indexes and manifests by their digests and ids. One that is missing or cannot be decrypted is damage.

    Chunks and indexes are read wherever they are sound: under their own names, condemned, or set aside. A copy that is
    missing, damaged or refused hides no sound one. `has_chunk` is for writers. Whoever verifies does not look aside
    (`looks_aside`): what is set aside is to be put back.
    """

    store: Store
    protection: Protection = PLAIN
    looks_aside: bool = True
    condemned: Condemned = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "condemned", Condemned(self.store))

    def has_chunk(self, name: str) -> bool:
        """Return True if a writer may rely on the chunk of that name: what is condemned is not there for one.

        Nor is a link to nothing: the chunk that the writer stores takes its place.
        """
        try:
            return self.store.exists(name)
        except ObjectIsNoFile:
            return False

    def is_taken(self, name: str) -> bool:
        """Return True if anything has that name, be it no file."""
        try:
            return self.store.exists(name)
        except ObjectIsNoFile:
            return True

    def chunk_size(self, digest: bytes) -> int:
        """The stored length of a chunk. Raises ObjectNotFound."""
        return self.condemned.find(self.protection.locate(digest), self.store.size)

    def envelope(self, digest: bytes) -> bytes:
        """Return the envelope of a chunk, under its own name or condemned, which is still to be verified.

        Raises ChunkDamaged, RepositoryNotReadable.
        """
        name = self.protection.locate(digest)
        return _read_chunk(digest, lambda: self.protection.reveal(name, self.condemned.find(name, self.store.get)))

    def chunk(self, digest: bytes) -> bytes:
        """Return a chunk, verified, from wherever it is sound. Raises ChunkDamaged, NewerFormat, RepositoryNotReadable."""
        try:
            return unseal(self.envelope(digest), digest)
        except (ChunkDamaged, RepositoryNotReadable) as error:
            return self.elsewhere(self.protection.locate(digest), lambda place: self.chunk_at(place, digest), error)

    def stored_chunk(self, digest: bytes) -> bytes:
        """Return a chunk as it is stored, verified, from wherever it is sound. Raises as `chunk`."""
        name = self.protection.locate(digest)
        try:
            return _read_chunk(digest, lambda: self._checked(self.condemned.find(name, self.store.get), digest))
        except (ChunkDamaged, RepositoryNotReadable) as error:
            return self.elsewhere(name, lambda place: self._checked(self.store.get(place), digest), error)

    def _checked(self, stored: bytes, digest: bytes) -> bytes:
        """Return what is stored for a chunk. Raises ChunkDamaged, ObjectDamaged and NewerFormat for anything else."""
        unseal(self.protection.reveal(self.protection.locate(digest), stored), digest)
        return stored

    def chunk_at(self, place: str, digest: bytes) -> bytes:
        """Return a chunk, verified, from one place. Raises ObjectNotFound and ObjectDamaged, too."""
        stored = self.store.get(place)
        return unseal(self.protection.reveal(self.protection.locate(digest), stored), digest)

    def open_index(self, digest: bytes) -> BinaryIO:
        """Open an index file, under its own name or condemned, which is still to be verified.

        Raises IndexDamaged; reading it may raise ObjectDamaged.
        """
        name = self.protection.index_name(digest)
        try:
            source = self.condemned.find(name, self.store.open)
        except ObjectNotFound as error:
            raise IndexDamaged(f"Index {digest.hex()} is missing.") from error
        try:
            return self.protection.reveal_stream(name, source)
        except ObjectDamaged as error:
            source.close()
            raise unreadable_index(digest.hex(), error) from error
        except NewerFormat:
            source.close()
            raise

    def elsewhere(self, name: str, read: Callable[[str], FoundT], error: RepositoryError) -> FoundT:
        """Return the first sound copy at another place than that name. `read` verifies a copy; `error`: why one is looked for.

        Raises `error` if there is none; RepositoryNotReadable if one cannot be read, which may be sound.
        """
        if not self.looks_aside or error.transient:
            raise error
        refused: RepositoryNotReadable | None = None
        for place in self._other_places(name):
            try:
                return read(place)
            except (ObjectNotFound, RepositoryDamaged, NewerFormat):
                continue
            except RepositoryNotReadable as unread:
                if unread.transient:
                    raise
                refused = refused if of_the_medium(unread) else unread
        raise refused or error

    def _other_places(self, name: str) -> Iterator[str]:
        """Yield the places of what is set aside or condemned of that name, and then the name: it may have been put back."""
        first, stem = damaged_name(name), name.rpartition("/")[2]
        yield first
        others = [one for one in self.store.names(DAMAGED) if set_aside_stem(one) == stem and not one.endswith(".json")]
        yield from (one for one in others if one != first)
        yield from self.condemned.places(name)
        yield name

    def as_verified(self) -> Objects:
        """Return the objects for whoever verifies: what is set aside is missing."""
        return replace(self, looks_aside=False)

    def manifest(self, capture_id: str) -> bytes:
        """A manifest's bytes. Raises ObjectNotFound, ManifestDamaged and ManifestNewer."""
        name = self.protection.manifest_name(capture_id)
        try:
            return self.protection.reveal(name, self.store.get(name))
        except NewerFormat as error:
            raise ManifestNewer(f"The manifest of {capture_id} cannot be read. {error.message}") from error
        except ObjectDamaged as error:
            raise ManifestDamaged(f"The manifest of {capture_id} cannot be read. {error.message}") from error


def _read_chunk(digest: bytes, read: Callable[[], bytes]) -> bytes:
    try:
        return read()
    except ObjectNotFound as error:
        raise ChunkDamaged(f"Chunk {digest.hex()} is missing.") from error
    except ObjectDamaged as error:
        raise ChunkDamaged(f"Chunk {digest.hex()} cannot be read. {error.message}") from error


def unreadable_index(digest: str, error: ObjectDamaged) -> IndexDamaged:
    return IndexDamaged(f"Index {digest} cannot be read. {error.message}")
