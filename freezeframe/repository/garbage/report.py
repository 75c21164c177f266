"""What a collection did, and when the room will be free."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from freezeframe.repository.garbage.decision import Situation
from freezeframe.repository.session import Session
from freezeframe.repository.store.backend import Entry


@dataclass
class Tally:
    """Objects, and their bytes as they are stored."""

    objects: int = 0
    bytes: int = 0

    def add(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.objects += 1
            self.bytes += entry.size


@dataclass(frozen=True)
class Progress:
    """`done` of `total`: indexes that are read, then folders that are looked through."""

    phase: str
    done: int
    total: int


@dataclass(frozen=True)
class Held:
    """An object that cannot be read, and holds up every deletion: nobody can say which chunks it needs.

    `until`: then no session that may count on it can be live, and it is passed over.
    """

    name: str
    reason: str
    until: datetime


@dataclass
class CollectReport:
    """What was done, or with `dry_run` what would be. The tallies are disjoint but for what was condemned and then deleted."""

    dry_run: bool
    grace_s: float
    run_id: str | None = None  # under which objects were condemned
    captures: int = 0
    chunks_kept: int = 0  # distinct ones that captures refer to
    condemned: Tally = field(default_factory=Tally)
    taken_over: Tally = field(default_factory=Tally)  # from runs that never finished
    restored: Tally = field(default_factory=Tally)  # condemned ones that a capture refers to
    deleted: Tally = field(default_factory=Tally)
    waiting: Tally = field(default_factory=Tally)  # condemned earlier, and not to be deleted yet
    young: Tally = field(default_factory=Tally)  # that nobody refers to, and may yet
    temporary: Tally = field(default_factory=Tally)  # deleted from tmp/
    to_be_freed: Tally = field(default_factory=Tally)  # condemned now, for later runs to delete
    sessions_deleted: int = 0
    sessions: tuple[Session, ...] = ()  # live ones
    hindering: tuple[str, ...] = ()  # open sessions that hold up what is condemned, by their captures' ids
    held: tuple[Held, ...] = ()  # what holds up every deletion of chunks and indexes
    free_at: datetime | None = None  # before that nothing of what is condemned is deleted; None if nothing is


def foresee(report: CollectReport, finished: Iterable[datetime], situation: Situation) -> None:
    """Say how much is condemned, and when it will be ripe, if nobody begins a session.

    `finished`: the times of runs that have anything left.
    """
    for part in (report.condemned, report.taken_over, report.waiting):
        report.to_be_freed.objects += part.objects
        report.to_be_freed.bytes += part.bytes
    times = list(finished)
    held_up = [one for one in situation.live if any(situation.hinders(one, time) for time in times)]
    ends = [one.ended_at for one in held_up if one.ended_at is not None]
    report.hindering = tuple(one.session_id for one in held_up if one.ended_at is None)
    report.free_at = max([*times, *ends]) + situation.grace if times else None
    if report.held and report.free_at is not None:
        report.free_at = max([report.free_at, *(one.until for one in report.held)])
