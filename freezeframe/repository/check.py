"""The check of a repository's structure: is everything there that captures refer to, and what is there besides?

    config, key slots ─▶ manifests ─▶ indexes, read in whole ─▶ 256 folders of chunks, listed: missing? without a reference?
    (opening did)

No chunk is read, so what a chunk has become is `verify`'s to find. Nothing is changed. *Garbage* is what nothing refers to:
left by writers that died, or of a capture that is under way at this moment. It is told, and is no damage.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Final

from freezeframe.repository.aside import list_aside
from freezeframe.repository.errors import (
    ManifestUnreadable,
    NewerFormat,
    ObjectIsNoFile,
    ObjectNotFound,
    RepositoryDamaged,
    RepositoryNotReadable,
)
from freezeframe.repository.layout import (
    CHUNKS,
    CONDEMNED,
    DAMAGED,
    FAN_OUT,
    FEATURES,
    FORGOTTEN,
    INDEXES,
    KEYS,
    LINEAGE,
    MANIFESTS,
    SESSIONS,
    TMP,
    VERIFIED,
    digest_of,
    fanned_out,
    folder_of,
    is_object,
    key_slot_id_of,
)
from freezeframe.repository.referenced import chunks_of
from freezeframe.repository.verify.looking import Fault, look_at_index
from freezeframe.repository.verify.report import Damage
from freezeframe.repository.whereabouts import places_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from freezeframe.repository.index import Index
    from freezeframe.repository.manifest import Manifest
    from freezeframe.repository.repository import Repository

#: Folders of documents that are not read here.
_SIDE_FOLDERS: Final = (SESSIONS, CONDEMNED, FORGOTTEN, LINEAGE, FEATURES, VERIFIED, DAMAGED)

_HEX: Final = re.compile(r"[0-9a-f]{64}")


@dataclass
class Garbage:
    """The names of objects without a reference. `certain`: no manifest and no index is damaged, so there really is none."""

    chunks: list[str] = field(default_factory=list)
    indexes: list[str] = field(default_factory=list)
    tmp: list[str] = field(default_factory=list)
    set_aside: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)  # no names of this format's
    certain: bool = True

    @property
    def count(self) -> int:
        return sum(len(one) for one in (self.chunks, self.indexes, self.tmp, self.set_aside, self.strange))


@dataclass(frozen=True)
class CheckReport:
    """The findings. Damaged manifests and key slots are told in sentences."""

    captures: tuple[str, ...]
    indexes_read: int
    chunks_found: int  # different ones that captures refer to, and that are there
    manifests: tuple[str, ...]
    key_slots: tuple[str, ...]
    indexes: tuple[Damage, ...]
    chunks: tuple[Damage, ...]
    garbage: Garbage
    newer: tuple[str, ...] = ()  # no damage: what a newer version has written, and this one does not understand
    unreadable: tuple[str, ...] = ()  # nor that: what the storage refuses
    notes: tuple[str, ...] = ()  # of side documents that cannot be read: no capture needs them

    @property
    def sound(self) -> bool:
        return not (self.manifests or self.key_slots or self.indexes or self.chunks)

    @property
    def damaged_captures(self) -> list[str]:
        """Newest first."""
        return sorted({place.capture_id for one in self.indexes + self.chunks for place in one.places}, reverse=True)


def check(repository: Repository, on_folder: Callable[[int], None] = lambda _: None) -> CheckReport:
    """Look at everything but the bytes of chunks. `on_folder` is told how many of the 256 folders are done.

    Memory: 450 bytes for each chunk of a folder, and the names of all that is missing or garbage. Raises RepositoryNotReadable
    and TemporaryStorageFailed.
    """
    return _Check(repository, on_folder).check()


class _Check:
    def __init__(self, repository: Repository, on_folder: Callable[[int], None]) -> None:
        self._repository = repository
        self._objects = repository.objects.as_verified()
        self._on_folder = on_folder
        self._garbage = Garbage()
        self._indexes: dict[str, str] = {}  # reasons by digest
        self._missing: set[bytes] = set()
        self._newer: list[str] = []
        self._unreadable: list[str] = []
        self._notes: list[str] = []
        self._found = 0

    def check(self) -> CheckReport:
        key_slots = self._check_key_slots()
        unreadable: list[ManifestUnreadable] = []
        captures = self._repository.manifests(on_damaged=unreadable.append)
        damaged = [one.message for one in unreadable if isinstance(one, RepositoryDamaged)]
        self._unreadable += [one.message for one in unreadable if isinstance(one, RepositoryNotReadable)]
        self._newer += [one.message for one in unreadable if isinstance(one, NewerFormat)]
        digests = list(dict.fromkeys(disk.index for manifest in captures for _, disk in manifest.disks()))
        self._check_chunks(captures)
        self._check_names(digests)
        self._check_files()
        indexes, chunks = self._damage()
        self._garbage.certain = not unreadable and not indexes and not self._newer
        return CheckReport(
            captures=tuple(one.capture_id for one in captures),
            indexes_read=len(digests),
            chunks_found=self._found,
            manifests=tuple(damaged),
            key_slots=tuple(key_slots),
            indexes=indexes,
            chunks=chunks,
            garbage=self._garbage,
            newer=tuple(dict.fromkeys(self._newer)),
            unreadable=tuple(dict.fromkeys(self._unreadable)),
            notes=tuple(dict.fromkeys(self._notes)),
        )

    def _check_key_slots(self) -> list[str]:
        if not self._repository.config.authenticated:
            return []
        slots, keys = self._repository.encryption
        self._garbage.strange += [name for name in self._objects.store.names(KEYS) if key_slot_id_of(name) is None]
        self._newer += slots.newer(keys)
        self._unreadable += slots.unreadable()
        return slots.list(keys)[1]

    def _open_index(self, digest: str) -> Index | None:
        index = look_at_index(self._objects, digest_of(digest))
        if not isinstance(index, Fault):
            return index
        if index.newer:
            self._newer.append(index.reason)
        else:
            self._indexes[digest] = index.reason
        return None

    def _check_chunks(self, captures: Sequence[Manifest]) -> None:
        """Listed after the manifests: what they refer to was settled before they were."""
        with chunks_of(self._objects, captures, self._open_index) as referred:
            for number, folder in enumerate(FAN_OUT):
                there = self._listed(f"{CHUNKS}/{folder}")
                wanted = referred.digests_by_key(number)
                missing = [chunk for key, chunk in wanted.items() if key not in there]
                self._missing.update(missing)
                self._found += len(wanted) - len(missing)
                self._garbage.chunks += _names(CHUNKS, there - wanted.keys())
                self._on_folder(number + 1)

    def _check_names(self, digests: list[str]) -> None:
        store, protection = self._objects.store, self._objects.protection
        wanted = {protection.key(INDEXES, digest_of(digest)) for digest in digests}
        for folder in FAN_OUT:
            self._garbage.indexes += _names(INDEXES, self._listed(f"{INDEXES}/{folder}") - wanted)
        self._garbage.tmp += sorted(store.names(TMP))
        aside = list_aside(self._objects)
        self._garbage.set_aside += [one.object_name for one in aside]
        self._notes += [one.refused for one in aside if one.refused]
        self._garbage.strange += [name for name in store.names(MANIFESTS) if protection.capture_id_of(name) is None]

    def _check_files(self) -> None:
        """Name what is no file, and so stops garbage collection if that reads it. Object storage has no such thing."""
        store = self._objects.store
        if store.traffic.remote:
            return
        for name in filter(is_object, chain.from_iterable(map(store.names, _SIDE_FOLDERS))):
            try:
                store.exists(name)
            except ObjectIsNoFile as error:
                told = self._notes if folder_of(name) in {DAMAGED, VERIFIED} else self._unreadable
                told.append(error.message)

    def _listed(self, folder: str) -> set[bytes]:
        """The keys of the names in a folder that can be a chunk's or an index's there; other names are strange."""
        found: set[bytes] = set()
        try:
            for name in self._objects.store.names(folder):
                last = name.rpartition("/")[2]
                if _HEX.fullmatch(last) and last.startswith(folder[-2:]):
                    found.add(bytes.fromhex(last))
                else:
                    self._garbage.strange.append(name)
        except ObjectIsNoFile as error:  # all others were listed
            self._unreadable.append(error.message)
        return found

    def _damage(self) -> tuple[tuple[Damage, ...], tuple[Damage, ...]]:
        """Damage with its places as they are now: a capture that was forgotten meanwhile takes what it had with it."""
        missing = {chunk for chunk in self._missing if not self._is_there(chunk)}
        if not missing and not self._indexes:
            return (), ()
        places = places_of(self._repository, set(self._indexes), missing)
        aside = {one.document.digest for one in list_aside(self._objects) if one.document is not None}
        indexes = [Damage(one, why, places[one], one in aside) for one, why in self._indexes.items() if places[one]]
        chunks = [
            Damage(one.hex(), f"Chunk {one.hex()} is missing.", places[one.hex()], one.hex() in aside)
            for one in sorted(missing)
            if places[one.hex()]
        ]
        return tuple(indexes), tuple(chunks)

    def _is_there(self, chunk: bytes) -> bool:
        """Wherever a reader would find it, which a listing of one folder may not show."""
        try:
            self._objects.chunk_size(chunk)
        except ObjectNotFound:
            return False
        except ObjectIsNoFile as error:  # told as that
            self._unreadable.append(error.message)
        return True


def _names(kind: str, keys: Iterable[bytes]) -> list[str]:
    return [fanned_out(kind, key) for key in sorted(keys)]
