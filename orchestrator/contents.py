"""Which guests each capture has, so that planning reads no manifest in which none of its guests is.

    manifest read ─▶ its guests' UUIDs ─┬─▶ remembered
                                        └─▶ Redis, for the next orchestrator: 0.8 kB for a capture of 20 guests

A manifest never changes under its id; one with another size or time than it had counts as not known. What Redis has lost, or
what cannot be read there, is read from the manifests again.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Final, NamedTuple

import redis
import structlog

from freezeframe import redis_fault
from freezeframe.contract import names
from freezeframe.repository import Manifest
from freezeframe.repository.store.backend import Entry
from orchestrator.oldest import Oldest

log = structlog.get_logger("contents")

#: Guests that are remembered, of all captures together: 8 MB, and 37 MB in Redis. Of more captures the oldest are forgotten.
MOST_GUESTS: Final = 1_000_000
#: Fields of Redis's hash that are read or written with one command, which answers nobody else meanwhile.
AT_ONCE: Final = 500
#: Seconds that Redis keeps what no plan has asked for.
KEPT_S: Final = 30 * 86400


class _Known(NamedTuple):
    """What a capture's manifest was when it was read, and its guests."""

    version: str
    guests: tuple[str, ...]


class Contents:
    """The guests of captures. Any thread may call."""

    def __init__(self, most_guests: int = MOST_GUESTS) -> None:
        self._most_guests = most_guests
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}
        self._uuids: dict[str, str] = {}  # each once: a guest is in many captures
        self._oldest = Oldest()
        self._guests = 0
        self._loaded: set[str] = set()
        self._new: set[str] = set()  # that Redis does not have yet

    def has_none(self, capture_id: str, entry: Entry, wanted: AbstractSet[str]) -> bool:
        """Return True if a capture is known to have none of these guests."""
        known = self._known.get(capture_id)
        return known is not None and known.version == _version(entry) and wanted.isdisjoint(known.guests)

    def note(self, entry: Entry, manifest: Manifest) -> None:
        """Remember a manifest that was read."""
        with self._lock:
            self._keep(manifest.capture_id, _version(entry), (one.guest_uuid for one in manifest.guests))
            self._new.add(manifest.capture_id)

    def load(self, client: redis.Redis, repository_id: str) -> None:
        """Read what Redis has of a repository, once. One that does not answer has nothing."""
        if repository_id in self._loaded:
            return
        try:
            for field, text in client.hscan_iter(names.contents_key(repository_id), count=AT_ONCE):
                version, _, guests = text.partition(" ")
                with self._lock:
                    if field not in self._known:
                        self._keep(field, version, guests.split(","))
        except redis.RedisError as error:
            log.info("which guests captures have is not read", why=redis_fault.words_of(error))
            return
        self._loaded.add(repository_id)

    def save(self, client: redis.Redis, repository_id: str, listed: Collection[str]) -> None:
        """Have Redis keep what it does not have, and forget captures that are not listed any more. Best effort."""
        key = names.contents_key(repository_id)
        with self._lock:
            gone = [one for one in self._known if one not in listed]
            for one in gone:
                self._forget(one)
            new = {one: known for one in self._new if (known := self._known.get(one)) is not None}
            self._new.clear()
        fields = {one: f"{known.version} {','.join(known.guests)}" for one, known in new.items()}
        with suppress(redis.RedisError):  # the next orchestrator reads the manifests
            for some in _some(list(fields)):
                client.hset(key, mapping={one: fields[one] for one in some})
            for some in _some(gone):
                client.hdel(key, *some)
            if fields:
                client.expire(key, KEPT_S)

    def _keep(self, capture_id: str, version: str, guests: Iterable[str]) -> None:
        self._forget(capture_id)
        found = tuple(self._uuids.setdefault(one, one) for one in guests)
        self._known[capture_id] = _Known(version, found)
        self._guests += len(found)
        if self._oldest.add(capture_id, self._known):
            self._uuids = {one: one for known in self._known.values() for one in known.guests}
        while self._guests > self._most_guests:
            self._forget(self._oldest.pop())

    def _forget(self, capture_id: str) -> None:
        known = self._known.pop(capture_id, None)
        if known is not None:
            self._guests -= len(known.guests)


def _version(entry: Entry) -> str:
    return f"{entry.modified.timestamp():.6f}/{entry.size}"


def _some(items: list[str]) -> list[list[str]]:
    return [items[start : start + AT_ONCE] for start in range(0, len(items), AT_ONCE)]
