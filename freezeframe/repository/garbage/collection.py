"""A run: read what is referred to, then go through all folders, condemn, take over, restore, delete.

now ─▶ sessions ─▶ runs ─▶ manifests ─▶ indexes ─▶ │ tmp ─▶ record ─▶ each folder ─▶ finished │ ─▶ sessions, records
       an error up to here: nothing was changed    │ an error: the next run goes on          │
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeVar

import structlog
from ulid import ULID

from freezeframe.repository.age import drift_allowed
from freezeframe.repository.errors import CollectionOverdue, ObjectNotFound, RepositoryFull, RepositoryNotWritable
from freezeframe.repository.garbage.decision import FolderPlan, Situation, plan_folder
from freezeframe.repository.garbage.forgotten import Forgotten, find_forgotten
from freezeframe.repository.garbage.record import Records, RunRecord
from freezeframe.repository.garbage.references import References, read_references, references_of
from freezeframe.repository.garbage.report import CollectReport, Progress, Tally, foresee
from freezeframe.repository.layout import CHUNKS, FAN_OUT, INDEXES, MANIFESTS, TMP, condemned_name, is_temporary
from freezeframe.repository.session import TERM
from freezeframe.repository.store.keeping import check_may_delete
from freezeframe.repository.store_clock import Measured, measure, newest_known

if TYPE_CHECKING:
    from freezeframe.repository.repository import Repository
    from freezeframe.repository.store.backend import Entry

WorkT = TypeVar("WorkT")
DoneT = TypeVar("DoneT")

log = structlog.get_logger("garbage")

#: Longer than an NFS client believes an old listing (acdirmax, 60 s), than a process is stopped
#: and goes on (a machine that is suspended overnight). Shorter would free room sooner, and nobody waits for that.
GRACE: Final = timedelta(hours=24)

#: Requests at once. A directory gains little from them; object storage takes 30 ms for each.
_THREADS: Final = 8

_KINDS: Final = (CHUNKS, INDEXES)

#: More than a store's clock leaves out: object storage may tell whole seconds of one object, and more in a listing.
_COARSE: Final = timedelta(seconds=1)


def _utc_now() -> datetime:
    return datetime.now(UTC)


def collect(
    repository: Repository,
    *,
    grace: timedelta = GRACE,
    dry_run: bool = False,
    clock: Callable[[], datetime] = _utc_now,
    on_progress: Callable[[Progress], None] = lambda _: None,
    threads: int | None = None,
) -> CollectReport:
    """Condemn what nobody refers to, and delete what earlier runs have condemned and nobody may rely on any more.

    Any number may run at once, beside writers and readers. Any grace is safe; see GRACE. With
    none at all what was just condemned is deleted by a second pass. `threads`: 0 does all in the caller's; None takes
    as many as the store is worth.

    Times are compared by the store's clock. Raises ClockDrift if this host's, `clock`, is too far from it for that grace.
    Raises CollectionStopped or SessionDamaged if something is damaged, RepositoryNotReadable if something cannot be listed or
    read: then nothing was changed. RepositoryNotWritable, CollectionOverdue: then the next run goes on from there.
    DeletesRefused, at once, on a machine that takes nothing away.
    """
    if threads is None:
        threads = max(_THREADS, repository.store.traffic.at_once)
    report = CollectReport(dry_run=dry_run, grace_s=grace.total_seconds())
    first = _Run(repository, grace, clock, on_progress, threads, report)
    finished_at = first.run()
    if finished_at is not None and (not grace or first.now() > finished_at + grace):
        second = CollectReport(dry_run=False, grace_s=grace.total_seconds())
        _Run(repository, grace, clock, on_progress, threads, second, not_before=finished_at + _COARSE).run()
        report = _joined(report, second)
    log.info("collected", condemned=report.condemned.objects, deleted=report.deleted.objects, dry_run=dry_run)
    return report


def _joined(first: CollectReport, second: CollectReport) -> CollectReport:
    """What both passes did; and how it stands after the second."""
    for name in ("condemned", "taken_over", "restored", "deleted", "temporary"):
        done, now = getattr(first, name), getattr(second, name)
        setattr(second, name, Tally(done.objects + now.objects, done.bytes + now.bytes))
    second.run_id = second.run_id or first.run_id
    second.sessions_deleted += first.sessions_deleted
    return second


def _own_name(record: RunRecord, entry: Entry) -> str:
    """The name that a condemned object had before."""
    return entry.name.removeprefix(condemned_name(record.run_id, ""))


@dataclass
class _Run:
    repository: Repository
    grace: timedelta
    clock: Callable[[], datetime]
    on_progress: Callable[[Progress], None]
    threads: int
    report: CollectReport
    not_before: datetime | None = None  # it is known to be later, however coarse the store's clock is
    _measured: Measured | None = None
    _own: RunRecord | None = None
    _may_delete: bool = False
    _full: RepositoryFull | None = None  # not even a move has room: the run is left unfinished
    _left: Counter[str] = field(default_factory=Counter)  # objects that stay, by run

    def __post_init__(self) -> None:
        self._store = self.repository.store
        self._records = Records(self.repository.objects)
        self._began_s = time.monotonic()

    def run(self) -> datetime | None:
        """When the own run was finished; None if it condemned nothing."""
        if not self.report.dry_run:
            check_may_delete(self._store, "gc")
        now = self._look_at_clock()
        now = max(now, self.not_before or now)
        situation = Situation(now, self.grace, tuple(self.repository.sessions.all()))
        records = self._records.all()
        references = read_references(
            self.repository, lambda done, total: self.on_progress(Progress("reading indexes", done, total))
        )
        with references:
            forgotten = find_forgotten(self.repository, self._records, situation)
            with references_of(self.repository, forgotten.lingering) as lingering:
                self.repository.check_there()  # a feature of a newer version may have been switched on meanwhile
                self._delete_temporary(situation)
                self._move_forgotten(forgotten, situation)
                self.report.held = tuple(forgotten.held_up_by({**references.unread, **lingering.unread}, situation.now))
                self._may_delete = forgotten.certain and not self.report.held
                self._go_through(references, lingering, records, situation)
        if self._full is not None:
            raise self._told_full(self._full)
        own = self._finish()
        self._tidy(records, situation)
        self.report.captures = references.captures
        self.report.sessions = situation.live
        times = [one.finished_at or situation.now for one in (*records, *own) if self._left[one.run_id]]
        foresee(self.report, times, situation)
        return own[0].finished_at if own and not self.report.dry_run else None

    def now(self) -> datetime:
        """Return the time by the store's clock, not later than it is."""
        ours = self.clock()
        return ours if self._measured is None else self._measured.at(ours)

    def _look_at_clock(self) -> datetime:
        """Return the store's time. Raises ClockDrift.

        In a repository that has no room even for a name it is at least that of the newest object, and what was ripe then is
        deleted. A dry run that may not write believes this host.
        """
        try:
            self._measured = measure(self._store, self.clock, drift_allowed(self.grace))
        except RepositoryFull:
            return min(self.clock(), newest_known(self._store) + _COARSE)
        except RepositoryNotWritable:
            if not self.report.dry_run:
                raise
            return self.clock()
        return self._measured.theirs

    def _move_forgotten(self, forgotten: Forgotten, situation: Situation) -> None:
        """Condemn forgotten manifests, and delete those of ripe runs."""
        moves = [(entry, f"{MANIFESTS}/{entry.name.rpartition('/')[2]}") for entry in forgotten.loose]
        loose = [(entry, name) for entry, name in moves if not self._store.exists(name)]  # else somebody is just at it
        for record, entries in forgotten.condemned.items():
            if record.finished_at is None:
                loose += [(entry, _own_name(record, entry)) for entry in entries]
            elif situation.is_ripe(record):
                self._delete(entries)
            else:
                self._left[record.run_id] += len(entries)
        if loose:
            with self._unless_full():
                own = self._begun()
                moved = self._move([(entry, condemned_name(own.run_id, name)) for entry, name in loose])
                self._settle(condemned_name(own.run_id, MANIFESTS))
                self._left[own.run_id] += len(moved)

    def _go_through(
        self, references: References, lingering: References, records: list[RunRecord], situation: Situation
    ) -> None:
        for number, (kind, two) in enumerate((kind, two) for kind in _KINDS for two in FAN_OUT):
            marked = references.keys(kind, int(two, 16))
            if kind == CHUNKS:
                self.report.chunks_kept += len(marked)
            folder = f"{kind}/{two}"
            listed = self._each(lambda one: list(self._store.entries(condemned_name(one.run_id, folder))), records)  # noqa: B023
            condemned = dict(zip(records, listed, strict=True))
            # own names last: what is said to be there has been there a moment ago
            own = list(self._store.entries(folder))
            if own or any(condemned.values()):
                kept = lingering.keys(kind, int(two, 16))
                self._carry_out(plan_folder(own, condemned, marked, kept, situation), folder)
            self.on_progress(Progress("collecting", number + 1, len(_KINDS) * len(FAN_OUT)))

    def _carry_out(self, plan: FolderPlan, folder: str) -> None:
        self.report.young.add(plan.young)
        if not self._may_delete:
            plan.waits += plan.delete
            plan.delete = []
        self.report.waiting.add(entry for _, entry in plan.waits)
        self._left.update(record.run_id for record, _ in plan.waits)
        if (plan.condemn or plan.take_over) and self._full is None:
            with self._unless_full():
                self._move_to_own(plan, folder)
        if plan.restore:
            moves = [(entry, _own_name(record, entry)) for record, entry in plan.restore]
            self.report.restored.add(self._move(moves))
            self._settle(folder)
        if plan.delete:
            self._settle(folder)  # what is under its own name too must not be lost with its folder's last change
            self._delete([entry for _, entry in plan.delete])
            self.report.deleted.add(entry for _, entry in plan.delete)

    @contextmanager
    def _unless_full(self) -> Iterator[None]:
        try:
            yield
        except RepositoryFull as error:
            self._full = error  # what can be deleted is deleted all the same

    def _move_to_own(self, plan: FolderPlan, folder: str) -> None:
        own = self._begun()
        condemned = self._move([(entry, condemned_name(own.run_id, entry.name)) for entry in plan.condemn])
        moves = [(entry, condemned_name(own.run_id, _own_name(record, entry))) for record, entry in plan.take_over]
        taken_over = self._move(moves)
        if condemned or taken_over:
            self._settle(condemned_name(own.run_id, folder))
        self.report.condemned.add(condemned)
        self.report.taken_over.add(taken_over)
        self._left[own.run_id] += len(condemned) + len(taken_over)

    def _begun(self) -> RunRecord:
        """The own record, put before the first move."""
        if self._own is None:
            self._own = RunRecord(run_id=str(ULID()), begun_at=self.now())
            if not self.report.dry_run:
                self._records.put(self._own)
        return self._own

    def _check_in_time(self) -> None:
        """Raises CollectionOverdue if the own run is too old to move anything: its record may be gone, and with it whatever
        is moved to it.
        """
        if self._own is None:
            return
        if max(self.now() - self._own.begun_at, timedelta(seconds=time.monotonic() - self._began_s)) > TERM:
            raise CollectionOverdue(f"Garbage collection {self._own.run_id} has taken longer than {TERM.days} days.")

    def _finish(self) -> list[RunRecord]:
        """The own run, finished, if it has begun to condemn. After this nothing is moved to it.

        The record stays even if others were faster with everything: where a move is a copy, something may be left of it.
        """
        if self._own is None:
            return []
        finished = self._own.model_copy(update={"finished_at": self.now()})
        if not self.report.dry_run:
            self.report.run_id = finished.run_id
            finished = self._records.put(finished)
        return [finished]

    def _told_full(self, error: RepositoryFull) -> RepositoryFull:
        freed = self.report.deleted.objects + self.report.temporary.objects
        advice = "Collect again: there is room now to condemn more." if freed else None
        if not freed and self._measured is None:
            advice = (
                "There is room for no object at all, so the store's time is known no better than by its newest one. Free a few "
                "KiB; or, if nobody else writes, `freezeframe gc --grace 0 --nobody-else-writes` deletes all that is condemned."
            )
        return RepositoryFull(f"{error.message} {freed} objects were deleted, and not all is condemned.", advice=advice)

    def _delete_temporary(self, situation: Situation) -> None:
        entries = (entry for entry in self._store.entries(TMP) if is_temporary(entry.name))
        old = [entry for entry in entries if situation.is_old(entry.modified)]
        self.report.temporary.add(old)
        self._delete(old)

    def _tidy(self, records: list[RunRecord], situation: Situation) -> None:
        over = [one for one in situation.sessions if one not in situation.live]
        self.report.sessions_deleted = len(over)
        if not self.report.dry_run:
            for session in over:
                self.repository.sessions.delete(session.session_id)
            for record in records:
                if self._left[record.run_id] == 0 and situation.is_over(record):
                    self._records.delete(record.run_id)

    def _settle(self, folder: str) -> None:
        if not self.report.dry_run:
            self._store.settle([folder])

    def _move(self, moves: list[tuple[Entry, str]]) -> list[Entry]:
        """Move objects, but for those that another run has moved meanwhile; those that were."""

        def move(one: tuple[Entry, str]) -> bool:
            try:
                self._store.move(one[0].name, one[1], self._check_in_time)
            except ObjectNotFound:
                return False
            return True

        moved = [True] * len(moves) if self.report.dry_run else self._each(move, moves)
        return [entry for (entry, _), done in zip(moves, moved, strict=True) if done]

    def _each(self, action: Callable[[WorkT], DoneT], work: list[WorkT]) -> list[DoneT]:
        """Do them in order, or several at once; the first error is raised, and what has not begun is left."""
        # a few take less time than a pool, unless each takes the time to a server and back
        few = 2 if self._store.traffic.remote else self.threads
        if self.threads == 0 or len(work) < few:
            return [action(one) for one in work]
        pool = ThreadPoolExecutor(min(self.threads, len(work)), thread_name_prefix="collect")
        try:
            return list(pool.map(action, work))
        finally:
            pool.shutdown(cancel_futures=True)

    def _delete(self, entries: list[Entry]) -> None:
        if not self.report.dry_run:
            self._each(lambda entry: self._store.delete(entry.name), entries)
