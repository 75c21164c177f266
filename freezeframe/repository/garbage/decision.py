"""What is to become of each object of a folder: pure decisions over listings, sessions and records.

own name, not referred to, old                     condemn
own name, not referred to, younger                 young: stays
a run that has not finished (anything)             take over
a finished run, referred to, not under own name    restore
a finished run, lingering, not under own name      waits
a finished run, anything else, the run is ripe     delete
a finished run, anything else                      waits
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from freezeframe.repository.garbage.record import RunRecord
from freezeframe.repository.layout import key_of
from freezeframe.repository.session import TERM, Session
from freezeframe.repository.store.backend import Entry


@dataclass(frozen=True)
class Situation:
    """What a run knows of the world. `now` was taken before `sessions` were listed."""

    now: datetime
    grace: timedelta
    sessions: tuple[Session, ...]

    @property
    def live(self) -> tuple[Session, ...]:
        return tuple(one for one in self.sessions if one.is_live(self.now, self.grace))

    def is_old(self, modified: datetime) -> bool:
        """Whether what was written then can hardly belong to anybody who is at work."""
        return modified < self.now - self.grace and all(modified < one.begun_at for one in self.live)

    def hinders(self, session: Session, finished_at: datetime) -> bool:
        """Whether a session may rely on what a run has condemned that finished then."""
        return session.is_live(self.now, self.grace) and session.begun_at <= finished_at + self.grace

    def is_ripe(self, record: RunRecord) -> bool:
        finished_at = record.finished_at
        if finished_at is None or self.now <= finished_at + self.grace:
            return False
        return not any(self.hinders(one, finished_at) for one in self.sessions)

    def ripe_at(self, finished_at: datetime) -> datetime:
        """Return the time after which a run that finished then is ripe, whatever the sessions of now do."""
        ends = [one.ended_at or one.expires_at for one in self.sessions if self.hinders(one, finished_at)]
        return max(finished_at, *ends) + self.grace if ends else finished_at + self.grace

    def is_over(self, record: RunRecord) -> bool:
        """Whether a run can move nothing to itself any more, finished or not."""
        return record.finished_at is not None or self.now > record.begun_at + TERM + self.grace


@dataclass
class FolderPlan:
    """What to do in one folder; of what is condemned with the run it is in."""

    condemn: list[Entry] = field(default_factory=list)
    young: list[Entry] = field(default_factory=list)
    take_over: list[tuple[RunRecord, Entry]] = field(default_factory=list)
    restore: list[tuple[RunRecord, Entry]] = field(default_factory=list)
    delete: list[tuple[RunRecord, Entry]] = field(default_factory=list)
    waits: list[tuple[RunRecord, Entry]] = field(default_factory=list)


def plan_folder(
    own: Sequence[Entry],
    condemned: Mapping[RunRecord, Sequence[Entry]],
    marked: AbstractSet[bytes],
    lingering: AbstractSet[bytes],
    situation: Situation,
) -> FolderPlan:
    """The plan for the objects of a folder: `own` ones and, by run, condemned ones.

    `marked`: the keys that manifests refer to; `lingering`: that forgotten ones do, upon which an incremental may be under way.
    """
    plan = FolderPlan()
    there = set()
    for key, entry in _keyed(own):
        there.add(key)
        if key not in marked:
            (plan.condemn if situation.is_old(entry.modified) else plan.young).append(entry)
    for record, entries in condemned.items():
        ripe = situation.is_ripe(record)
        for key, entry in _keyed(entries):
            if record.finished_at is None:
                plan.take_over.append((record, entry))
            elif key in marked and key not in there:
                plan.restore.append((record, entry))
                there.add(key)
            else:
                gone = ripe and (key in there or key not in lingering)
                (plan.delete if gone else plan.waits).append((record, entry))
    return plan


def _keyed(entries: Sequence[Entry]) -> Iterator[tuple[bytes, Entry]]:
    """Give objects with the 32 bytes of their names. Anything else in the folder was put there by somebody else."""
    for entry in entries:
        if (key := key_of(entry.name)) is not None:
            yield key, entry
