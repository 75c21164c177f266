"""The line: which runs may begin, and what each of the others waits for. Pure.

An entry says which places a run takes and which runs want a guest that it wants too. It does not name its guests: ten
thousand of them would be read again by each orchestrator with each change (`wanted_guests` has them).
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, ValidationError

from freezeframe.contract.event import Queued
from freezeframe.contract.message import CaptureId, HostId, Message, Shape
from freezeframe.settings import OrchestratorSettings


class Shared(Shape):
    """A guest that two runs want, as one of them has found. It counts while the other one wants the guests of then."""

    guest: str  # the name of one of them
    changes: int  # of the other's entry


class Entry(Message):
    """The places that a run takes, or waits for."""

    admitted: bool
    hosts: tuple[HostId, ...]
    waits_for_guests: bool = False  # else it is refused a guest that is in another capture
    guests_digest: str = ""  # of the ids of the guests that it wants
    changes: int = 0  # how often those have changed
    shares: dict[CaptureId, Shared] = Field(default_factory=dict)
    everywhere: Annotated[bool, Field(exclude=True)] = False  # its hosts cannot be read: it has a place on each


@dataclass(frozen=True)
class Limits:
    """How many captures may be at work at once."""

    in_all: int
    on_a_host: int

    @classmethod
    def of(cls, settings: OrchestratorSettings) -> Limits:
        return cls(settings.captures_at_once, settings.captures_per_host)


def read_entry(text: str) -> Entry:
    """Return what an entry says. One of another version takes its places all the same: unreadable is not absent.

    What cannot be read of it counts as the most that it can mean: it is at work, and on every host.
    """
    try:
        return Entry.model_validate_json(text)
    except ValidationError:
        return _partly_read(text)


def _partly_read(text: str) -> Entry:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    fields: dict[str, Any] = found if isinstance(found, dict) else {}
    admitted = fields.get("admitted") is not False
    patient = fields.get("waits_for_guests") is True
    try:
        return Entry(admitted=admitted, waits_for_guests=patient, hosts=fields["hosts"])
    except (KeyError, ValidationError):
        return Entry(admitted=admitted, waits_for_guests=patient, hosts=(), everywhere=True)


def waiting(entries: Mapping[str, Entry], limits: Limits) -> dict[str, Queued]:
    """Return the runs that have to wait, each with its place and the reason. What is not in it may begin, or has."""
    taken = _Taken(limits, neighbours(entries))
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


def rivals(entries: Mapping[str, Entry], capture_id: str, wanted: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the guests of a run that another one has, or gets before it, and which capture that is.

    `wanted` are the guests of the run that others want, and who they are.
    """
    before = {one for one, entry in entries.items() if entry.admitted or one < capture_id}
    found = {guest: [one for one in others if one in before] for guest, others in wanted.items()}
    return {guest: others[0] for guest, others in found.items() if others}


def neighbours(entries: Mapping[str, Entry]) -> dict[str, dict[str, str]]:
    """Return of each run which others want a guest that it wants, and the name of one such guest.

    It is enough that one of the two has found the other: who asks later does.
    """
    found = defaultdict[str, dict[str, str]](dict)
    for capture_id, entry in entries.items():
        for other, shared in entry.shares.items():
            if other in entries and entries[other].changes == shared.changes:
                found[capture_id].setdefault(other, shared.guest)
                found[other].setdefault(capture_id, shared.guest)
    return found


class _Taken:
    """The places that are taken, and those that are kept for runs which wait."""

    def __init__(self, limits: Limits, neighbours: Mapping[str, Mapping[str, str]]) -> None:
        self._limits = limits
        self._neighbours = neighbours
        self._at_work = set[str]()
        self._waiting = set[str]()
        self._kept = 0
        self._everywhere = 0
        self._on_host = Counter[str]()
        self._kept_on_host = Counter[str]()

    def begin(self, capture_id: str, entry: Entry) -> None:
        self._at_work.add(capture_id)
        self._on_host.update(entry.hosts)
        self._everywhere += entry.everywhere

    def why_not(self, capture_id: str, entry: Entry) -> str | None:
        """Return why a run has to wait, and keep what it lacks for it and no more; None if it may begin."""
        guest = self._guest(capture_id) if entry.waits_for_guests else None
        host = None if guest else self._host(entry)
        datacenter = None if guest or host else self._datacenter()
        why = guest or host or datacenter
        if why is not None:
            self._waiting.add(capture_id)
        if host or datacenter:
            self._kept_on_host.update(entry.hosts)
        if datacenter:
            self._kept += 1
        return why

    def _datacenter(self) -> str | None:
        at_work = len(self._at_work)
        if at_work + self._kept < self._limits.in_all:
            return None
        return f"{_captures(at_work)} at work{_and_before(self._kept)}, and {self._limits.in_all} may be at once"

    def _guest(self, capture_id: str) -> str | None:
        shared = self._neighbours.get(capture_id, {})
        for other in sorted(shared):
            if other in self._waiting:
                return f"guest {shared[other]} is in capture {other}, which was asked for before and waits too"
            if other in self._at_work:
                return f"guest {shared[other]} is in capture {other}, which is at work"
        return None

    def _host(self, entry: Entry) -> str | None:
        limit = self._limits.on_a_host
        for host_id in entry.hosts:
            at_work, kept = self._on_host[host_id] + self._everywhere, self._kept_on_host[host_id]
            if at_work + kept >= limit:
                return (
                    f"on host {host_id} {_captures(at_work)} at work{_and_before(kept)}, and {limit} may be at once"
                    f"{self._unread()}"
                )
        return None

    def _unread(self) -> str:
        if not self._everywhere:
            return ""
        return f" ({self._everywhere} by a newer orchestrator, which this one cannot read and counts on each host)"


def _captures(count: int) -> str:
    return "1 capture is" if count == 1 else f"{count or 'no'} captures are"


def _and_before(count: int) -> str:
    if not count:
        return ""
    return " and 1 waits before it" if count == 1 else f" and {count} wait before it"
