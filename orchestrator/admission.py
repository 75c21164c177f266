"""Admission: which runs may begin, and which wait for a place. The oldest first, by the ids that order their captures.

    waits ─▶ admitted ─▶ prepared, held, transferred, released ─▶ its place is free
      │          │          └─ its entry follows what hosts still have of it: refused guests are free, moved ones count
      │          └─ noted before the run goes on: whatever becomes of the process, the place is kept for it
      └─ for a place on each of its hosts, one in the datacenter, and, if it asked for that, for its guests

A run that waits for a host keeps a place for itself on each of its hosts, so one of many hosts is not overtaken by small ones
for ever. One that waits for a guest keeps that guest for itself, and no place.
Two captures of one guest are made in the order of their ids, as retention and `latest` order them. The later one waits for the
earlier one if it asked for that, and else it is refused the guest (`Rivals`). Of a run whose hosts have claimed its guests that
is left to them, as they know which of its guests it still has.

What was decided lies on the board (`board`), an entry a run, changed by compare-and-set: two that decide at once cannot both
take the last place. Of two runs that want one guest the later one finds the other (`wanted_guests`), and its entry says so. It
was looked for before the entry is put, and is again if a run concerned has changed its entry meanwhile. So as long as both want
the guest, an entry on the board says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import redis

from freezeframe.contract import names
from freezeframe.contract.event import Queued
from freezeframe.contract.plan import HostPlan
from freezeframe.contract.result import PrepareResult
from freezeframe.contract.words import RunState
from orchestrator import board, wanted_guests
from orchestrator.board import Board, Boards
from orchestrator.line import Entry, Limits, Shared, rivals, waiting
from orchestrator.run import Run

#: States of a run in which a host may not have claimed its guests yet.
_BEFORE_CLAIMS: Final = frozenset(map(str, (RunState.ASKED, RunState.QUEUED, RunState.PREPARING)))


@dataclass(frozen=True)
class Wanted:
    """What a run takes, or waits for."""

    hosts: tuple[str, ...]
    guests: Mapping[str, str]  # to their names
    waits_for_guests: bool

    @classmethod
    def of(cls, hosts: Iterable[HostPlan], *, waits_for_guests: bool) -> Wanted:
        hosts = tuple(hosts)
        guests = {guest.guest_uuid: guest.name for host in hosts for guest in host.guests}
        return cls(tuple(host.host_id for host in hosts), guests, waits_for_guests)


@dataclass(frozen=True)
class Rivals:
    """Guests that another run has or gets before, by the capture's id. Nothing was taken."""

    captures: Mapping[str, str]


def ask(client: redis.Redis, boards: Boards, limits: Limits, capture_id: str, wanted: Wanted) -> Queued | Rivals | None:
    """Take the places of a run, or stand in line: return its place in it, None if it may begin. Raises redis errors.

    Rivals: the run does not wait for guests, and cannot have these. Asked again after it was admitted, it is so still, also
    with other hosts: guests move, and it has the older right.
    """
    asking = _Asking(client, boards, capture_id, wanted)
    while True:
        entry = asking.entry()
        if not entry.admitted and not entry.waits_for_guests:
            captures = _unclaimed(client, rivals(asking.board.entries, capture_id, asking.found))
            if captures:
                return Rivals(captures)
        queued = waiting({**asking.board.entries, capture_id: entry}, limits).get(capture_id)
        if asking.put(entry.model_copy(update={"admitted": queued is None})):
            return queued
        # somebody else was faster, so one of all that decide has come on


def follow(client: redis.Redis, boards: Boards, run: Run, version: str, prepared: Sequence[PrepareResult]) -> None:
    """Have the entry of a run that was admitted say what the run has now. Raises redis errors.

    Nothing is asked of Redis if that was done for this version of its record.
    """
    if boards.followed.get(run.capture_id) == version or run.plan is None or run.state.ended:
        return
    wanted = still_wanted(run, prepared)
    asking = _Asking(client, boards, run.capture_id, wanted)
    while not asking.is_on_board():
        if asking.put(asking.entry().model_copy(update={"admitted": True})):
            break
    boards.followed[run.capture_id] = version


def still_wanted(run: Run, prepared: Sequence[PrepareResult]) -> Wanted:
    """Return what hosts have of a run with a plan, as far as they have told. Pure.

    A guest that its host has refused was undone there before the answer, and is free once it is not looked for elsewhere. Any
    other one is claimed until its host releases, whatever becomes of its transfers. A host with no such guest has no place.
    """
    assert run.plan is not None  # noqa: S101  a run is planned before it has anything
    refused = frozenset[str]()
    if run.state is not RunState.PREPARING:
        newest = {guest.guest_uuid: guest for one in sorted(prepared, key=_round) for guest in one.guests}
        refused = frozenset(guest_uuid for guest_uuid, guest in newest.items() if guest.fault)
    hosts = [
        HostPlan(host_id=host.host_id, guests=tuple(one for one in host.guests if one.guest_uuid not in refused))
        for host in run.plan.hosts
    ]
    return Wanted.of((host for host in hosts if host.guests), waits_for_guests=run.request.wait_for_guests)


def _round(result: PrepareResult) -> int:
    return result.round


def place(client: redis.Redis, boards: Boards, limits: Limits, capture_id: str) -> Queued | None:
    """Return the place of a run that waits; None if it may ask again. Changes nothing. Raises redis errors."""
    return boards.read(client).waiting(limits).get(capture_id)


def leave(client: redis.Redis, boards: Boards, capture_id: str) -> None:
    """Free the places and guests of a run that has ended. Raises redis errors."""
    boards.followed.pop(capture_id, None)
    board.remove(client, capture_id)
    wanted_guests.leave(client, capture_id)


def sweep(client: redis.Redis, boards: Boards, known: Board, active: Iterable[str]) -> None:
    """Free what runs have that were on the board, and are not active any more: whoever ended them did not come to it.

    `known` is the board as it was before `active` was read: a run is active before it is on the board. Raises redis errors.
    """
    going_on = set(active)
    boards.keep_only(going_on)
    ended = known.entries.keys() - going_on
    for capture_id in board.remove_ended(client, sorted(ended)):
        leave(client, boards, capture_id)


class _Asking:
    """One run's entry on its way to the board."""

    def __init__(self, client: redis.Redis, boards: Boards, capture_id: str, wanted: Wanted) -> None:
        self._client = client
        self._boards = boards
        self._capture_id = capture_id
        self._wanted = wanted
        self._digest = wanted_guests.digest(wanted.guests)
        self._found: Mapping[str, Sequence[str]] | None = None
        self.board = boards.read(client)

    @property
    def _known(self) -> Entry | None:
        return self.board.entries.get(self._capture_id)

    @property
    def found(self) -> Mapping[str, Sequence[str]]:
        """The guests that others want too, and who they are."""
        if self._found is None:
            self._found = wanted_guests.want(self._client, self._capture_id, self._wanted.guests)
        return self._found

    def is_on_board(self) -> bool:
        """Return True if the run is admitted with just that."""
        known = self._known
        return (
            known is not None
            and known.admitted
            and (known.hosts, known.guests_digest) == (self._wanted.hosts, self._digest)
        )

    def entry(self) -> Entry:
        """Return the entry, admitted if it is already."""
        known = self._known
        entries, wanted = self.board.entries, self._wanted
        changes = 0 if known is None else known.changes + (known.guests_digest != self._digest)
        return Entry(
            admitted=known is not None and known.admitted,
            hosts=wanted.hosts,
            waits_for_guests=wanted.waits_for_guests,
            guests_digest=self._digest,
            changes=changes,
            shares={
                other: Shared(guest=wanted.guests[guest], changes=entries[other].changes if other in entries else 0)
                for other, guest in wanted_guests.first_of(self.found).items()
            },
        )

    def put(self, entry: Entry) -> bool:
        """Return True if the entry is on the board, or its run has ended; else the board is read anew."""
        if entry == self._known or board.put(self._client, self.board.version, self._capture_id, entry):
            return True
        before = self._partners()
        self.board = self._boards.read(self._client)
        if self._partners() != before:
            self._found = None
        return False

    def _partners(self) -> dict[str, Entry]:
        """Return the entries of those runs that want a guest of this one's, as far as either has found it."""
        found = wanted_guests.first_of(self.found)
        return {
            other: entry
            for other, entry in self.board.entries.items()
            if other in found or self._capture_id in entry.shares
        }


def _unclaimed(client: redis.Redis, captures: Mapping[str, str]) -> dict[str, str]:
    """Return those guests on which their hosts cannot decide, as the other capture may not have claimed them yet."""
    others = sorted(set(captures.values()))
    pipeline = client.pipeline(transaction=False)
    for other in others:
        pipeline.hget(names.run_key(other), "state")
    early = {one for one, state in zip(others, pipeline.execute(), strict=True) if state in _BEFORE_CLAIMS}
    return {guest: other for guest, other in captures.items() if other in early}
