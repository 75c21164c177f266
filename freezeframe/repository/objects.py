"""The objects of a repository: a store, and the protection of what is in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from freezeframe.repository.condemned import Condemned
from freezeframe.repository.errors import (
    ChunkDamaged,
    IndexDamaged,
    ManifestDamaged,
    ManifestNewer,
    NewerFormat,
    ObjectDamaged,
    ObjectNotFound,
)
from freezeframe.repository.protection import PLAIN, Protection

if TYPE_CHECKING:
    from freezeframe.repository.store.backend import Store


@dataclass(frozen=True)
class Objects:
    """What is missing or cannot be revealed is damage, and is named by what it is: a chunk, an index, a manifest.

    Chunks and indexes are read wherever they are: under their own names or condemned. `has_chunk` is for writers.
    """

    store: Store
    protection: Protection = PLAIN
    condemned: Condemned = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "condemned", Condemned(self.store))

    def has_chunk(self, name: str) -> bool:
        """Whether a writer may rely on the chunk of that name: what is condemned is not there for one."""
        return self.store.exists(name)

    def chunk_size(self, digest: bytes) -> int:
        """The stored length of a chunk. Raises ObjectNotFound."""
        return self.condemned.find(self.protection.locate(digest), self.store.size)

    def envelope(self, digest: bytes) -> bytes:
        """The envelope of a chunk, which is still to be verified. Raises ChunkDamaged, RepositoryNotReadable."""
        name = self.protection.locate(digest)
        try:
            return self.protection.reveal(name, self.condemned.find(name, self.store.get))
        except ObjectNotFound as error:
            raise ChunkDamaged(f"Chunk {digest.hex()} is missing.") from error
        except ObjectDamaged as error:
            raise ChunkDamaged(f"Chunk {digest.hex()} cannot be read. {error.message}") from error

    def open_index(self, digest: bytes) -> BinaryIO:
        """An index file, which is still to be verified. Raises IndexDamaged; reading it may raise ObjectDamaged."""
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
