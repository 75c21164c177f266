"""The objects of a repository: a store, and the protection of what is in it."""

from __future__ import annotations

import hashlib
from contextlib import suppress
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
)
from freezeframe.repository.layout import DAMAGED, damaged_name, set_aside_stem
from freezeframe.repository.protection import PLAIN, Protection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from freezeframe.repository.store.backend import Store

FoundT = TypeVar("FoundT")


@dataclass(frozen=True)
class Objects:
    """What is missing or cannot be revealed is damage, and is named by what it is: a chunk, an index, a manifest.

    Chunks and indexes are read wherever they are: under their own names, condemned, or set aside and sound. `has_chunk` is for
    writers. What is set aside is not `looks_aside` for whoever verifies: it is to be put back.
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

    def chunk_size(self, digest: bytes) -> int:
        """The stored length of a chunk. Raises ObjectNotFound."""
        return self.condemned.find(self.protection.locate(digest), self.store.size)

    def envelope(self, digest: bytes) -> bytes:
        """The envelope of a chunk, which is still to be verified. Raises ChunkDamaged, RepositoryNotReadable."""
        name = self.protection.locate(digest)
        try:
            return self.protection.reveal(name, self.condemned.find(name, self.store.get))
        except ObjectNotFound as error:
            for stored in self._aside(name, self.store.get):
                with suppress(ObjectDamaged, ChunkDamaged, NewerFormat):
                    envelope = self.protection.reveal(name, stored)
                    unseal(envelope, digest)
                    return envelope
            raise ChunkDamaged(f"Chunk {digest.hex()} is missing.") from error
        except ObjectDamaged as error:
            raise ChunkDamaged(f"Chunk {digest.hex()} cannot be read. {error.message}") from error

    def open_index(self, digest: bytes) -> BinaryIO:
        """An index file, which is still to be verified. Raises IndexDamaged; reading it may raise ObjectDamaged."""
        name = self.protection.index_name(digest)
        try:
            source = self.condemned.find(name, self.store.open)
        except ObjectNotFound as error:
            for source in self._aside(name, self.store.open):
                if (plain := self._if_sound(name, source, digest)) is not None:
                    return plain
            raise IndexDamaged(f"Index {digest.hex()} is missing.") from error
        try:
            return self.protection.reveal_stream(name, source)
        except ObjectDamaged as error:
            source.close()
            raise unreadable_index(digest.hex(), error) from error
        except NewerFormat:
            source.close()
            raise

    def _if_sound(self, name: str, source: BinaryIO, digest: bytes) -> BinaryIO | None:
        """Return an index file that was set aside, closed unless it is the one."""
        try:
            plain = self.protection.reveal_stream(name, source)
            if hashlib.file_digest(plain, "sha256").digest() == digest:  # type: ignore[arg-type]  # a BinaryIO is enough
                plain.seek(0)
                return plain
        except (ObjectDamaged, NewerFormat):
            pass
        source.close()
        return None

    def _aside(self, name: str, look: Callable[[str], FoundT]) -> Iterator[FoundT]:
        """Look at what is set aside of that name, and then under its own name again: it may have been put back."""
        if not self.looks_aside:
            return
        first, stem = damaged_name(name), name.rpartition("/")[2]
        with suppress(ObjectNotFound):
            yield look(first)
        others = [one for one in self.store.names(DAMAGED) if set_aside_stem(one) == stem and not one.endswith(".json")]
        for place in [*(one for one in others if one != first), name]:
            with suppress(ObjectNotFound):
                yield look(place)

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


def unreadable_index(digest: str, error: ObjectDamaged) -> IndexDamaged:
    return IndexDamaged(f"Index {digest} cannot be read. {error.message}")
