"""References of captures that are forgotten: an incremental may be under way upon one, and inherit what is set aside.

    ┌─▶ forgotten/, condemned/ ─▶ manifests/ ─▶ forgotten/, condemned/ ─┐
    └──────────────── a capture that was not read yet: read it ─────────┴─▶ none: every reference is known

While a session is live, the manifest of its parent is in one of these places (garbage collection sees to that), and it moves
from `manifests/` to the others only. A capture that is sealed after the last look needs nothing of this: its writer has looked
into `damaged/` before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from freezeframe.repository.errors import (
    CaptureNotFound,
    ManifestUnreadable,
    NewerFormat,
    ObjectDamaged,
    ObjectNotFound,
    ObjectNotReadable,
    RepositoryNotReadable,
    SessionDamaged,
)
from freezeframe.repository.garbage.forgotten import forgotten_capture, list_forgotten, read_forgotten
from freezeframe.repository.garbage.record import Records
from freezeframe.repository.whereabouts import places_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from freezeframe.repository.manifest import Manifest
    from freezeframe.repository.repository import Repository

#: Looks, before what moves each time is left to the next verification.
_LOOKS: Final = 5


class Lingering:
    """The references of captures, but those of `known` ids, to some indexes (in hex) and chunks. Read once, when asked for."""

    def __init__(self, repository: Repository, indexes: set[str], chunks: set[bytes], known: Iterable[str]) -> None:
        self._repository = repository
        self._indexes = indexes
        self._chunks = chunks
        self._read = set(known)
        self._needed: set[str] = set()
        self._moved = False  # since it was listed, so that it is to be looked for again
        self._certain: bool | None = None  # nobody has asked yet

    def may_need(self, digest: str) -> bool:
        """Return True if a capture refers to it, or if that cannot be known.

        Raises RepositoryNotReadable if the store is away.
        """
        if self._certain is None:
            self._certain = True
            self._certain = self._look() and self._certain
        return not self._certain or digest in self._needed

    def _look(self) -> bool:
        for _ in range(_LOOKS):
            self._moved = False
            new = [*self._forgotten(), *self._sealed(), *self._forgotten()]
            if not self._certain or not (new or self._moved):
                return bool(self._certain)
            places = places_in(self._repository, new, self._indexes, self._chunks, self._doubt)
            self._needed.update(digest for digest, found in places.items() if found)
        return False

    def _forgotten(self) -> Iterator[Manifest]:
        try:
            entries = [entry for entry, _ in list_forgotten(self._repository, Records(self._repository.objects)).each]
        except (SessionDamaged, NewerFormat, ObjectNotReadable) as error:
            self._doubt(error)
            return
        for entry in entries:
            capture_id = forgotten_capture(self._repository, entry)
            if capture_id is None or capture_id in self._read:
                continue
            try:
                manifest = read_forgotten(self._repository, entry)
            except ObjectNotFound:
                self._moved = True
            except (ManifestUnreadable, NewerFormat, ObjectDamaged, RepositoryNotReadable) as error:
                self._doubt(error)
            else:
                self._read.add(capture_id)
                yield manifest

    def _sealed(self) -> Iterator[Manifest]:
        for capture_id in self._repository.capture_ids():
            if capture_id in self._read:
                continue
            try:
                manifest = self._repository.manifest(capture_id)
            except CaptureNotFound:
                self._moved = True
            except (ManifestUnreadable, RepositoryNotReadable) as error:
                self._doubt(error)
            else:
                self._read.add(capture_id)
                yield manifest

    def _doubt(self, error: Exception) -> None:
        """Note that not all can be known. Raises the error if the store is away."""
        if isinstance(error, RepositoryNotReadable) and error.transient:
            raise error
        self._certain = False
