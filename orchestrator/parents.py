"""The part of the repository that planning reads: for each disk the captures that an incremental may build upon.

    listing ─▶ newest first, without captures that are known to have none of the guests (`contents`)
                             ├─▶ remembered since an earlier plan ─┬─▶ enough for the guests of this request? stop
                             └─▶ read, several at once ────────────┘
                                       └─▶ cannot be read: passed over, and told

A manifest never changes under its id, so what was read of one is remembered; whether it is there, the listing alone says. A
manifest that cannot be read stops no capture: an older parent is found, or none, and the host proves each before it is used.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Final, Self

import redis

from freezeframe.contract.plan import DiskPlan
from freezeframe.repository import Manifest, ParentSearch, Repository
from freezeframe.repository.errors import ManifestUnreadable
from freezeframe.repository.store.backend import Entry
from orchestrator import metrics
from orchestrator.contents import Contents
from orchestrator.oldest import Oldest
from orchestrator.planner import parent_disks

#: What is remembered: a guest's disk takes about 1 KiB, so these are 60,000 of them.
MOST_BYTES: Final = 64 << 20
#: Manifests that cannot be read which a run names; of the others it tells the number.
MOST_TOLD: Final = 8


class Briefs:
    """Manifests that were read, without the guests' XML and the proof. If there are too many, the oldest captures go first.

    Not those that were used longest ago: every plan reads from the newest on, so the next one would miss each of them.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._known: dict[str, tuple[datetime, int, bytes]] = {}
        self._oldest = Oldest()
        self._bytes = 0
        self._lock = threading.Lock()
        self.contents = Contents()

    def get(self, capture_id: str, entry: Entry) -> Manifest | None:
        """Return what is known of a manifest; None for one that has another size or time now than when it was read."""
        with self._lock:
            known = self._known.get(capture_id)
        if known is None or known[:2] != (entry.modified, entry.size):
            return None
        return Manifest.model_validate_json(known[2])

    def keep(self, entry: Entry, manifest: Manifest) -> Manifest:
        """Remember a manifest that was read; return what of it is remembered."""
        self.contents.note(entry, manifest)
        guests = tuple(
            guest.model_copy(update={"domain_xml": "", "live_xml": "", "warnings": ()}) for guest in manifest.guests
        )
        brief = manifest.model_copy(update={"guests": guests, "proof": None})
        data = brief.model_dump_json().encode()
        with self._lock:
            self._forget(manifest.capture_id)
            self._known[manifest.capture_id] = entry.modified, entry.size, data
            self._bytes += len(data)
            self._oldest.add(manifest.capture_id, self._known)
            while self._bytes > self._most_bytes:
                self._forget(self._oldest.pop())
        return brief

    def _forget(self, capture_id: str) -> None:
        known = self._known.pop(capture_id, None)
        if known is not None:
            self._bytes -= len(known[2])


class _Wanted:
    """What is remembered, for a plan of these guests: captures with none of them do not concern it."""

    def __init__(self, briefs: Briefs, guests: AbstractSet[str]) -> None:
        self._briefs = briefs
        self._guests = guests
        self.listed: set[str] = set()
        self.get, self.keep = briefs.get, briefs.keep

    def concerns(self, capture_id: str, entry: Entry) -> bool:
        self.listed.add(capture_id)
        return not self._briefs.contents.has_none(capture_id, entry, self._guests)


class Parents:
    """The parents of `guests`, those of one request; none if that is to be `full`.

    A context manager: what is still being read is left when it ends.
    """

    def __init__(
        self, repository: Repository, client: redis.Redis, briefs: Briefs, guests: AbstractSet[str], *, full: bool
    ) -> None:
        self._id = str(repository.config.id)
        self._redis = client
        self._contents = briefs.contents
        self._wanted = _Wanted(briefs, guests)
        if not full:
            self._contents.load(client, self._id)
        self._unreadable: list[ManifestUnreadable] = []
        self._is_suspect = repository.suspects.marked().has
        self._manifests = _none() if full else repository.each_manifest(self._unreadable.append, self._wanted)
        self._search = ParentSearch(self._manifests)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._manifests.close()
        if self._wanted.listed:
            self._contents.save(self._redis, self._id, self._wanted.listed)

    def of(self, guest_uuid: str) -> Sequence[DiskPlan]:
        """Return the captures that disks of a guest could build upon, newest first. Raises RepositoryNotReadable."""
        return parent_disks(self._search.of(guest_uuid), self._is_suspect)

    def warnings(self) -> tuple[str, ...]:
        """Return what callers are told, and count it."""
        metrics.UNREADABLE_MANIFESTS.inc(len(self._unreadable))
        return warnings_of(self._unreadable, self._search.given_up)


def _none() -> Generator[Manifest, None, None]:
    yield from ()


def warnings_of(unreadable: Sequence[ManifestUnreadable], given_up: Sequence[str]) -> tuple[str, ...]:
    """Return the warnings of a run whose planning met these. Pure."""
    found = [
        f"No disk builds upon a capture whose manifest cannot be read. {error.message} {error.hint}"
        for error in unreadable[:MOST_TOLD]
    ]
    if len(unreadable) > MOST_TOLD:
        found.append(f"{len(unreadable) - MOST_TOLD} more manifests cannot be read: `freezeframe captures` names them.")
    found += [
        f"Guest {guest_uuid} is in none of the newest captures that were looked at for its parents: it is captured in full. "
        "`freezeframe forget` with rules that keep fewer captures helps."
        for guest_uuid in given_up
    ]
    return tuple(found)
