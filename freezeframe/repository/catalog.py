"""The captures of a repository: found by listing manifests, since a manifest is what makes a capture exist."""

from __future__ import annotations

import operator
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from freezeframe.repository.age import newest_first
from freezeframe.repository.errors import (
    AlreadyExists,
    CaptureNotFound,
    IndexDamaged,
    ManifestDamaged,
    ManifestNotReadable,
    ManifestTooLarge,
    ManifestUnreadable,
    ObjectDamaged,
    ObjectNotFound,
    RepositoryNotReadable,
)
from freezeframe.repository.header import IndexHeader, read_header
from freezeframe.repository.index import load_index
from freezeframe.repository.layout import (
    FORGOTTEN,
    MANIFESTS,
    OBJECT_BYTES_MAX,
    digest_of,
    folder_of,
    forgotten_name,
)
from freezeframe.repository.lineage import Lineages, is_same_capture, link_of
from freezeframe.repository.manifest import Manifest, parse_manifest
from freezeframe.repository.read_ahead import read_ahead
from freezeframe.repository.refusal import check_not_away

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from datetime import datetime

    from freezeframe.repository.lineage import Link
    from freezeframe.repository.manifest import DiskCapture
    from freezeframe.repository.objects import Objects
    from freezeframe.repository.store.backend import Entry

LATEST: Final = "latest"

FoundT = TypeVar("FoundT")


class Memory(Protocol):
    """A bounded memory of manifests, which never change. Any thread may call."""

    def concerns(self, capture_id: str, entry: Entry) -> bool:
        """Return False for a capture that is of no use, as far as is known: it is neither read nor given."""

    def get(self, capture_id: str, entry: Entry) -> Manifest | None:
        """Return what is known of a manifest that is listed as `entry`."""

    def keep(self, entry: Entry, manifest: Manifest) -> Manifest:
        """Remember a manifest that was read; return what of it is remembered."""


class Catalog:
    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._store = objects.store
        self.lineages = Lineages(objects)

    def capture_ids(self) -> list[str]:
        """Return all captures, newest first. What is no manifest by its name is passed over."""
        return newest_first(self.stored_at())

    def stored_at(self) -> dict[str, datetime]:
        """Return the times of all manifests by the store's clock, by their captures."""
        return _times(self._entries())

    def _entries(self) -> dict[str, Entry]:
        found = {}
        for entry in self._store.entries(MANIFESTS):
            capture_id = self._objects.protection.capture_id_of(entry.name)
            if capture_id is not None:
                found[capture_id] = entry
        return found

    def load(self, capture_id: str) -> Manifest:
        """Raises CaptureNotFound and ManifestUnreadable."""
        data, place = self._data(capture_id)
        return parse_manifest(data, capture_id, place)

    def _data(self, capture_id: str) -> tuple[bytes, str]:
        """Return the bytes of a manifest, and where it is. Raises CaptureNotFound and ManifestUnreadable."""
        try:
            data = self._objects.manifest(capture_id)
        except ObjectNotFound as error:
            raise CaptureNotFound(f"There is no capture {capture_id} in {self._store.address}.") from error
        return data, f"{self._store.address}/{self._objects.protection.manifest_name(capture_id)}"

    def each(
        self, on_damaged: Callable[[ManifestUnreadable], None] | None = None, memory: Memory | None = None
    ) -> Generator[Manifest, None, None]:
        """Yield every capture, newest first. A few are in memory at a time: a manifest carries its guests' XML and its proof.

        One that cannot be read is given to `on_damaged`, or raised without it. One that is deleted meanwhile is passed over.
        One that `memory` has is not read again, and one that does not concern it is passed over. Raises
        RepositoryNotReadable if the store as a whole cannot be read.
        """
        entries = self._entries()

        def look(capture_id: str) -> Manifest | ManifestUnreadable | None:
            entry = entries[capture_id]
            if memory is None:
                return self._looked_at(capture_id)
            known = memory.get(capture_id, entry)
            found = self._looked_at(capture_id) if known is None else known
            return memory.keep(entry, found) if known is None and isinstance(found, Manifest) else found

        wanted = newest_first(_times(entries))
        if memory is not None:
            wanted = [one for one in wanted if memory.concerns(one, entries[one])]
        for found in read_ahead(wanted, look, lambda one: entries[one].size):
            if isinstance(found, Manifest):
                yield found
            elif found is not None and on_damaged is None:
                raise found
            elif found is not None and on_damaged is not None:
                on_damaged(found)

    def link(self, capture_id: str) -> Link | ManifestUnreadable | None:
        """Return the place of a listed manifest among all, also of one that a newer version has written.

        Else why it alone cannot be read, or None if it is gone. Raises RepositoryNotReadable.
        """
        return self._alone(capture_id, self._link)

    def _link(self, capture_id: str) -> Link:
        data, place = self._data(capture_id)
        link = link_of(capture_id, data)
        if link is not None:
            return link
        parse_manifest(data, capture_id, place)  # raises
        raise ManifestDamaged(f"Manifest {place} has other bytes than were written.")

    def _looked_at(self, capture_id: str) -> Manifest | ManifestUnreadable | None:
        return self._alone(capture_id, self.load)

    def _alone(self, capture_id: str, read: Callable[[str], FoundT]) -> FoundT | ManifestUnreadable | None:
        """Read a listed manifest; return why it alone cannot be read, or None if it is gone. Raises RepositoryNotReadable."""
        try:
            return read(capture_id)
        except CaptureNotFound:
            return None
        except ManifestUnreadable as error:
            return error
        except RepositoryNotReadable as error:
            check_not_away(self._store)
            return ManifestNotReadable(
                f"The manifest of {capture_id} cannot be read. {error.message}", transient=error.transient
            )

    def resolve(self, wanted: str) -> str:
        """The id that `wanted` means: an id, the beginning of one id only, or `latest`. Raises CaptureNotFound."""
        ids = self.capture_ids()
        if wanted == LATEST and not ids:
            raise CaptureNotFound(
                f"The repository has no captures: {self._store.address}.",
                advice="Make one with `freezeframe capture`, or check the repository's address.",
            )
        if wanted == LATEST:
            return ids[0]
        found = [one for one in ids if wanted and one.startswith(wanted.upper())]
        if len(found) > 1:
            raise CaptureNotFound(
                f"{len(found)} captures begin with {wanted!r}, among them {found[0]} and {found[-1]}.",
                advice="Give more of the id.",
            )
        if not found:
            raise CaptureNotFound(f"There is no capture {wanted!r} in {self._store.address}.")
        return found[0]

    def delete(self, *capture_ids: str) -> None:
        """Take manifests away, oldest first, for good when this returns. One that is gone already is no error.

        A tombstone tells that before it is done. They are moved, not deleted: an incremental may have been begun upon them, and
        garbage collection must know.
        """
        self.lineages.bury(sorted(set(capture_ids)))
        self.take_away(*capture_ids)

    def take_away(self, *capture_ids: str) -> None:
        """As `delete`, of captures that nobody has forgotten: a copy that was too late. No tombstone tells it."""
        for capture_id in sorted(capture_ids):
            name = self._objects.protection.manifest_name(capture_id)
            with suppress(ObjectNotFound):
                self._store.move(name, forgotten_name(name))
        self._store.settle([MANIFESTS, FORGOTTEN])

    def write(self, manifest: Manifest) -> bool:
        """Seal a capture; return True if this call did. The same manifest again changes nothing; another raises AlreadyExists.

        Its lineage is decided here, in place of one that it has; the same manifest may be there with another.
        Every index must be there and be of the disk that the manifest says; else IndexDamaged, and nothing is sealed.
        """
        self._check_indexes(manifest)
        data = manifest.changed({"lineage": self.lineages.next(manifest.capture_id)}).to_json()
        _check_readable(manifest, self._objects.protection.stored_bytes(len(data)))
        return self._put(manifest.capture_id, data, is_same_capture)

    def adopt(self, manifest: Manifest, data: bytes) -> bool:
        """As `write`, for a capture that was sealed in the repository that this is a copy of; `data` is its manifest there.

        It stays as it is, with its lineage, and only the same bytes count as the same.
        """
        self._check_indexes(manifest)
        return self._put(manifest.capture_id, data, operator.eq)

    def _check_indexes(self, manifest: Manifest) -> None:
        """Check and settle the indexes of a manifest that is to be put.

        Side by side where each is a round trip: those of 20,000 disks would take ten minutes one after another.
        """
        disks = [disk for _, disk in manifest.disks()]
        for _ in read_ahead(disks, self.check_index) if self._store.traffic.remote else map(self.check_index, disks):
            pass
        names = {self._objects.protection.index_name(digest_of(disk.index)) for _, disk in manifest.disks()}
        self._store.settle({folder_of(name) for name in names})

    def _put(self, capture_id: str, data: bytes, is_same: Callable[[bytes, bytes], bool]) -> bool:
        """Put a manifest; return True if this call did. Raises AlreadyExists for one that `is_same` does not call the same."""
        name = self._objects.protection.manifest_name(capture_id)
        try:
            self._store.put_if_absent(name, self._objects.protection.protect(name, data))
        except AlreadyExists:
            with suppress(ObjectNotFound):  # another has sealed it, and it was forgotten or taken back since
                if not is_same(self._objects.manifest(capture_id), data):
                    raise
            # another may have died before it settled what it linked
            self._store.settle([MANIFESTS])
            return False
        return True

    def check_index(self, disk: DiskCapture) -> None:
        """Raises IndexDamaged for an index that is missing, damaged or of another disk, and NewerFormat."""
        header = self._header(disk.index)
        if (header.size_bytes, header.chunk_bytes) != (disk.size_bytes, disk.chunk_bytes):
            raise IndexDamaged(
                f"Index {disk.index} is of another disk than {disk.target} with {disk.size_bytes} bytes."
            )

    def _header(self, digest: str) -> IndexHeader:
        try:
            with self._objects.open_index(digest_of(digest)) as source:
                return read_header(source, digest)
        except (IndexDamaged, ObjectDamaged):
            with load_index(self._objects, digest_of(digest)) as index:  # which may be set aside and sound
                return index.header


def _times(entries: dict[str, Entry]) -> dict[str, datetime]:
    return {capture_id: entry.modified for capture_id, entry in entries.items()}


def _check_readable(manifest: Manifest, stored_bytes: int) -> None:
    if stored_bytes > OBJECT_BYTES_MAX:
        raise ManifestTooLarge(
            f"The manifest of {manifest.capture_id} would have {stored_bytes >> 20} MiB, and {OBJECT_BYTES_MAX >> 20} are the "
            f"most that is read again.",
            advice="Capture fewer guests at once.",
        )
