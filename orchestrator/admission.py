"""Admission: which runs may begin, and which wait for a place. The oldest first, by the ids that order their captures.

    waits ─▶ admitted ─▶ prepared, held, transferred, released ─▶ its place is free
      │          └─ noted before the run goes on: whatever becomes of the process, the place is kept for it
      └─ for a place on each of its hosts, one in the datacenter, and, if it asked for that, for its guests

A run that waits for a host keeps a place for itself on each of its hosts, so one of many hosts is not overtaken by small ones
for ever. One that waits for a guest keeps that guest for itself, and no place.
Two captures of one guest are made in the order of their ids, as retention and `latest` order them. The later one waits for the
earlier one if it asked for that, and else it is refused the guest (`Rivals`). Of a run whose hosts have claimed its guests that
is left to them, as they know which of its guests it still has.

What was decided lies in one hash of Redis, an entry a run, changed by compare-and-set: two that decide at once cannot both
take the last place. An entry of a run that has ended counts for nothing.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, cast

import redis
from pydantic import ValidationError

from freezeframe.contract import names
from freezeframe.contract.event import Queued
from freezeframe.contract.message import GuestUuid, HostId, Message
from freezeframe.contract.plan import HostPlan
from freezeframe.contract.words import RunState
from freezeframe.settings import OrchestratorSettings

_PUT = """
-- KEYS[1] the hash, ARGV: the version that it must have, a capture id, its entry. Returns 1 if the entry was set.
if (redis.call('HGET', KEYS[1], 'version') or '0') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
redis.call('HINCRBY', KEYS[1], 'version', 1)
return 1
"""

_VERSION: Final = "version"

#: States of a run in which a host may not have claimed its guests yet.
_BEFORE_CLAIMS: Final = frozenset(map(str, (RunState.ASKED, RunState.QUEUED, RunState.PREPARING)))


class Entry(Message):
    """What a run takes, or waits for."""

    admitted: bool
    hosts: tuple[HostId, ...]
    guests: dict[GuestUuid, str]  # to their names
    waits_for_guests: bool = False  # else it is refused a guest that is in another capture

    @classmethod
    def of(cls, hosts: Iterable[HostPlan], *, waits_for_guests: bool) -> Entry:
        hosts = tuple(hosts)
        guests = {guest.guest_uuid: guest.name for host in hosts for guest in host.guests}
        host_ids = tuple(host.host_id for host in hosts)
        return cls(admitted=False, hosts=host_ids, guests=guests, waits_for_guests=waits_for_guests)


@dataclass(frozen=True)
class Limits:
    """How many captures may be at work at once."""

    in_all: int
    on_a_host: int

    @classmethod
    def of(cls, settings: OrchestratorSettings) -> Limits:
        return cls(settings.captures_at_once, settings.captures_per_host)


def waiting(entries: Mapping[str, Entry], limits: Limits) -> dict[str, Queued]:
    """Return the runs that have to wait, each with its place and the reason. What is not in it may begin, or has. Pure."""
    taken = _Taken(limits)
    for capture_id, entry in entries.items():
        if entry.admitted:
            taken.begin(capture_id, entry)
    found: dict[str, Queued] = {}
    for capture_id in sorted(one for one, entry in entries.items() if not entry.admitted):
        why = taken.why_not(capture_id, entries[capture_id])
        if why is None:
            taken.begin(capture_id, entries[capture_id])
        else:
            found[capture_id] = Queued(place=len(found) + 1, why=why)
    return found


def rivals(entries: Mapping[str, Entry], capture_id: str) -> dict[str, str]:
    """Return the guests of a run that another one has, or gets before it, and which capture that is. Pure."""
    own = entries[capture_id]
    before = {one: entry for one, entry in entries.items() if entry.admitted or one < capture_id}
    before.pop(capture_id, None)
    return {guest: one for one, entry in before.items() for guest in entry.guests.keys() & own.guests.keys()}


class _Taken:
    """The places that are taken, and those that are kept for runs which wait."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._at_work = 0
        self._kept = 0
        self._on_host = Counter[str]()
        self._kept_on_host = Counter[str]()
        self._holders: dict[str, str] = {}
        self._wanted: dict[str, str] = {}

    def begin(self, capture_id: str, entry: Entry) -> None:
        self._at_work += 1
        self._on_host.update(entry.hosts)
        self._holders.update(dict.fromkeys(entry.guests, capture_id))

    def why_not(self, capture_id: str, entry: Entry) -> str | None:
        """Return why a run has to wait, and keep what it lacks for it and no more; None if it may begin."""
        guest = self._guest(entry) if entry.waits_for_guests else None
        host = None if guest else self._host(entry)
        datacenter = None if guest or host else self._datacenter()
        why = guest or host or datacenter
        if why is not None:
            for guest_uuid in entry.guests:
                self._wanted.setdefault(guest_uuid, capture_id)
        if host or datacenter:
            self._kept_on_host.update(entry.hosts)
        if datacenter:
            self._kept += 1
        return why

    def _datacenter(self) -> str | None:
        if self._at_work + self._kept < self._limits.in_all:
            return None
        return f"{_captures(self._at_work)} at work{_and_before(self._kept)}, and {self._limits.in_all} may be at once"

    def _guest(self, entry: Entry) -> str | None:
        for guest_uuid, name in entry.guests.items():
            if guest_uuid in self._wanted:
                return (
                    f"guest {name} is in capture {self._wanted[guest_uuid]}, which was asked for before and waits too"
                )
            if guest_uuid in self._holders:
                return f"guest {name} is in capture {self._holders[guest_uuid]}, which is at work"
        return None

    def _host(self, entry: Entry) -> str | None:
        limit = self._limits.on_a_host
        for host_id in entry.hosts:
            at_work, kept = self._on_host[host_id], self._kept_on_host[host_id]
            if at_work + kept >= limit:
                return f"on host {host_id} {_captures(at_work)} at work{_and_before(kept)}, and {limit} may be at once"
        return None


def _captures(count: int) -> str:
    return "1 capture is" if count == 1 else f"{count or 'no'} captures are"


def _and_before(count: int) -> str:
    if not count:
        return ""
    return " and 1 waits before it" if count == 1 else f" and {count} wait before it"


@dataclass(frozen=True)
class Board:
    """All entries as they were at a version, of runs that have not ended."""

    version: str = "0"
    active: frozenset[str] = frozenset()
    entries: Mapping[str, Entry] = field(default_factory=dict)
    waiting: Mapping[str, Queued] = field(default_factory=dict)


class Boards:
    """The board that was read last: every look at a run that waits needs it, and it changes seldom. Any thread may call."""

    def __init__(self) -> None:
        self._last = Board()
        self._limits: Limits | None = None
        self._lock = threading.Lock()

    def read(self, client: redis.Redis, limits: Limits) -> Board:
        """Return the board as it is. Two commands, and one more if it has changed. Raises redis errors."""
        pipeline = client.pipeline(transaction=False)
        pipeline.hget(names.ADMISSION_KEY, _VERSION)
        pipeline.smembers(names.ACTIVE_RUNS_KEY)
        version, active = pipeline.execute()
        with self._lock:
            last, last_limits = self._last, self._limits
        if (last.version, last.active, last_limits) == (version or "0", active, limits):
            return last
        board = _read(client, limits)
        with self._lock:
            self._last, self._limits = board, limits
        return board


def _read(client: redis.Redis, limits: Limits) -> Board:
    # of one moment: a run that is made and admitted between the two would be taken for one that has ended
    pipeline = client.pipeline(transaction=True)
    pipeline.hgetall(names.ADMISSION_KEY)
    pipeline.smembers(names.ACTIVE_RUNS_KEY)
    texts, active = cast("tuple[dict[str, str], set[str]]", pipeline.execute())
    version = texts.pop(_VERSION, "0")
    ended = sorted(texts.keys() - active)
    if ended:  # whoever ended them did not come to free their places
        client.hdel(names.ADMISSION_KEY, *ended)
    found = {one: entry for one, text in texts.items() if one in active and (entry := _entry(text)) is not None}
    return Board(version, frozenset(active), found, waiting(found, limits))


def _entry(text: str) -> Entry | None:
    """Return what an entry says; None for one of a newer orchestrator, which this one cannot count."""
    try:
        return Entry.model_validate_json(text)
    except ValidationError:
        return None


@dataclass(frozen=True)
class Rivals:
    """Guests that another run has or gets before, by the capture's id. Nothing was taken."""

    captures: Mapping[str, str]


def ask(client: redis.Redis, boards: Boards, limits: Limits, capture_id: str, entry: Entry) -> Queued | Rivals | None:
    """Take the places of a run, or stand in line: return its place in it, None if it may begin. Raises redis errors.

    Rivals: the run does not wait for guests, and cannot have these. Asked again after it was admitted, it is so still, also
    with other hosts: guests move, and it has the older right.
    """
    while True:
        board = boards.read(client, limits)
        known = board.entries.get(capture_id)
        wanted = entry.model_copy(update={"admitted": known is not None and known.admitted})
        entries = {**board.entries, capture_id: wanted}
        if not wanted.admitted and not wanted.waits_for_guests:
            captures = _unclaimed(client, rivals(entries, capture_id))
            if captures:
                return Rivals(captures)
        found = waiting(entries, limits).get(capture_id)
        stored = wanted.model_copy(update={"admitted": found is None})
        if stored == known or _put(client, board.version, capture_id, stored):
            return found
        # somebody else was faster, so one of all that decide has come on


def _unclaimed(client: redis.Redis, captures: Mapping[str, str]) -> dict[str, str]:
    """Return those guests on which their hosts cannot decide, as the other capture may not have claimed them yet."""
    others = sorted(set(captures.values()))
    pipeline = client.pipeline(transaction=False)
    for other in others:
        pipeline.hget(names.run_key(other), "state")
    early = {one for one, state in zip(others, pipeline.execute(), strict=True) if state in _BEFORE_CLAIMS}
    return {guest: other for guest, other in captures.items() if other in early}


def place(client: redis.Redis, boards: Boards, limits: Limits, capture_id: str) -> Queued | None:
    """Return the place of a run that waits; None if it may ask again. Changes nothing. Raises redis errors."""
    return boards.read(client, limits).waiting.get(capture_id)


def leave(client: redis.Redis, capture_id: str) -> None:
    """Free the places of a run that has ended. Raises redis errors."""
    pipeline = client.pipeline(transaction=True)
    pipeline.hdel(names.ADMISSION_KEY, capture_id)
    pipeline.hincrby(names.ADMISSION_KEY, _VERSION, 1)
    pipeline.execute()


def _put(client: redis.Redis, version: str, capture_id: str, entry: Entry) -> bool:
    return bool(client.eval(_PUT, 1, names.ADMISSION_KEY, version, capture_id, entry.model_dump_json()))
