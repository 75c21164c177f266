"""Watch for second writers: guests that start, stop or get disks while backups are open, in one thread of the control worker.

    an event of libvirt ─▶ the guest's storage now ─┬▶ is it a captured disk's that is not read yet? ─▶ its backup is given up
                                                    ├▶ the hold is not over: asked again each second
                                                    ├▶ other hosts may have it too: the orchestrator is told
                                                    └▶ libvirt does not tell: asked again each second. Of a guest that is
                                                       gone by then nobody knows any more: the orchestrator is told, and
                                                       the labels of this host's guests claim less (`orchestrator/unseen.py`)

The looks behind the hold and behind each disk (`steps/premises.py`, `steps/sole_writer.py`) find a writer that stays. This
finds one that is gone by then, and ends the backup at once instead of after hours. A writer counts for a backup if it ran at
any time since the backup began, by this host's monotonic clock. While this thread has no connection to libvirt, or the control
worker is down, only the looks see who comes; when it is back, all guests that run then count as new.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, NamedTuple, TypeVar

import redis
import structlog

from freezeframe.contract import names
from freezeframe.contract.fault import Fault
from freezeframe.contract.proof import GuestProof
from freezeframe.contract.result import HoldResult, SeenUses, StorageUse
from freezeframe.contract.words import Step
from freezeframe.errors import FreezeframeError
from freezeframe.naming import NamedGuest
from workers import fitness, host_calls
from workers.boot import boot_id
from workers.bounded import NO_THREAD
from workers.host import Host
from workers.hypervisor.guest_events import GuestEvent, GuestEvents
from workers.identity.uses import disk_uses
from workers.journal import CaptureJournal
from workers.refusal import SecondWriterError
from workers.scratch import ending
from workers.scratch.open_backups import OpenBackup, given_up, open_backups
from workers.steps.prepared import told_uses
from workers.steps.publication import RESULTS_KEEP_S
from workers.storage_looks import Look, looks, unseen_writes

log = structlog.get_logger("writers")

ResultT = TypeVar("ResultT")

#: Seconds for libvirt to tell of some guests, side by side, and of all; and until it is asked for events again, or a hold may
#: be over.
ONE_S: Final = 10.0
ALL_S: Final = 30.0
AGAIN_S: Final = 1.0


@dataclass(frozen=True)
class _Seen:
    """The storage that a guest used for a time, and why not all of it is known; `until_ns` is None while it does."""

    guest_uuid: str
    uses: tuple[fitness.DiskUse, ...]
    until_ns: int | None = None
    unseen: str = ""

    def reaches(self, begun_ns: int) -> bool:
        """Return True if the guest used it at any time since then."""
        return self.until_ns is None or self.until_ns >= begun_ns


class _Doubt(NamedTuple):
    """An open backup, and what other guests have used since it began at `begun_ns`."""

    journal: CaptureJournal
    backup: OpenBackup
    others: list[fitness.DiskUse]
    begun_ns: int


@dataclass
class WriterWatch:
    """The storage that guests have used since they were seen, as far as an open backup may be concerned."""

    host: Host
    _seen: list[_Seen] = field(default_factory=list)
    _pending: bool = False
    _told: dict[tuple[str, str], str] = field(
        default_factory=dict
    )  # by capture and field, what its orchestrator was told

    def begin(self) -> None:
        """Take all guests that run now for new, if any backup is open: they may have come unseen."""
        if not open_backups(self.host):
            self._seen.clear()
            return
        now_ns = time.monotonic_ns()
        uses = host_calls.answered(
            self.host, "the storage of all guests", ALL_S, lambda: disk_uses(self.host.hypervisor)
        )
        for uuid in sorted({use.guest_uuid for use in uses} | {one.guest_uuid for one in self._seen}):
            found = tuple(use for use in uses if use.guest_uuid == uuid)
            self._replace(uuid, found, now_ns, unseen_writes(found))
        self._judge()

    def take(self, events: Iterable[GuestEvent]) -> None:
        """Note what guests use since these events, and give up the backups of disks to which they write.

        Who is known to write waits for no guest of which libvirt tells late.
        """
        self._tell_again()
        come = list(events)
        found = looks(self.host, (event.guest_uuid for event in come if not event.stopped), ONE_S)
        for event in come:
            self._note(event, Look() if event.stopped else found[event.guest_uuid])
            self._pending = True
        if self._pending:
            self._judge()
        if self._ask_again({event.guest_uuid for event in come}):
            self._judge()

    def _note(self, event: GuestEvent, found: Look) -> None:
        if found.gone and event.adds_none:  # what it had it has until it stops, of which an event of its own tells
            return
        self._replace(event.guest_uuid, found.uses, event.at_ns, found.unseen)
        if found.gone:  # before anybody has seen what it had
            self._seen.append(_Seen(event.guest_uuid, (), time.monotonic_ns(), "it was gone when libvirt was asked"))
        if found.unseen:
            log.warning("the storage of a guest is not known yet", guest=event.guest_uuid, why=found.unseen)

    def _ask_again(self, asked: Collection[str]) -> bool:
        """Ask once more for what libvirt did not tell of guests that still run; those of `asked` were asked just now.

        Return True if any was asked.
        """
        late = [number for number, one in enumerate(self._seen) if one.unseen and one.until_ns is None]
        if not late or not open_backups(self.host):
            return False
        self._pending = True
        again = {number: self._seen[number] for number in late if self._seen[number].guest_uuid not in asked}
        told = looks(self.host, (one.guest_uuid for one in again.values()), ONE_S)
        ended = time.monotonic_ns()
        for number, one in again.items():
            found = told[one.guest_uuid]
            known = replace(one, uses=found.uses, unseen=found.unseen)
            self._seen[number] = replace(one, until_ns=ended) if found.gone else known
        return bool(again)

    def _replace(self, guest_uuid: str, uses: tuple[fitness.DiskUse, ...], at_ns: int, unseen: str = "") -> None:
        """End what the guest used until now, and note what it uses instead."""
        self._seen = [
            replace(one, until_ns=at_ns) if one.guest_uuid == guest_uuid and one.until_ns is None else one
            for one in self._seen
        ]
        if uses or unseen:
            self._seen.append(_Seen(guest_uuid, uses, unseen=unseen))

    def _judge(self) -> None:
        backups = open_backups(self.host)
        self._pending = False
        self._tell()
        if not backups and not self._pending:  # what is over concerns no later one
            self._seen = [one for one in self._seen if one.until_ns is None]
        doubts = [doubt for one in backups if (doubt := self._each(one, partial(self._doubt, one))) is not None]
        own = looks(self.host, (doubt.backup.guest_uuid for doubt in doubts), ONE_S)
        for doubt in doubts:
            self._each(doubt.backup, partial(self._check, doubt, own[doubt.backup.guest_uuid]))

    def _each(self, one: OpenBackup, judge: Callable[[], ResultT]) -> ResultT | None:
        """Judge one backup; what its journal does not tell, or take, is tried again, and costs the others nothing."""
        try:
            return judge()
        except (OSError, ValueError) as error:
            log.warning("a backup cannot be judged yet", capture=one.capture_id, guest=one.guest, why=str(error))
            self._pending = True
            return None

    def _doubt(self, one: OpenBackup) -> _Doubt | None:
        """Return what may be in a backup's way. Raises OSError, ValueError if the journal does not tell."""
        journal = self.host.journal.of(one.capture_id)
        guests = _held_guests(journal)
        if guests is None:
            self._pending = True  # its own look is still to come, and nobody must end a backup within the hold
            return None
        begun_ns = next((guest.begun_ns for guest in guests if guest.guest_uuid == one.guest_uuid), None)
        others = [] if begun_ns is None else self._used_since(begun_ns)
        if begun_ns is None or not others or given_up(journal, one.guest_uuid) is not None:
            return None
        return _Doubt(journal, one, others, begun_ns)

    def _tell(self) -> None:
        """Tell the orchestrator of each capture that is under way who has come since its guests were held."""
        under_way = {journal.capture_id: journal for journal in self.host.journal.unended()} if self._seen else {}
        for journal in under_way.values():
            try:
                self._tell_of(journal)
            except (
                OSError,
                ValueError,
            ) as error:  # who is in its way cannot be known, and the others are told all the same
                log.warning("a hold's result cannot be read", capture=journal.capture_id, why=str(error))
                self._publish(journal.capture_id, (), _unread(journal, error))
                self._pending = True

    def _tell_of(self, journal: CaptureJournal) -> None:
        """Tell of one capture. Raises OSError, ValueError if its hold's result cannot be read."""
        begun = [guest.begun_ns for guest in _held_guests(journal) or () if guest.begun_ns is not None]
        if not begun:
            return
        used = self._used_since(min(begun))
        for use in fitness.later_uses(used, told_uses(journal) if used else ()):
            self._publish(journal.capture_id, (use,))
        for seen in self._seen:  # one that still runs is seen by the looks, or they say that it is not
            if seen.unseen and seen.until_ns is not None and seen.reaches(min(begun)):
                why = f"what guest {seen.guest_uuid} used is not known: {seen.unseen}"
                self._publish(journal.capture_id, (), why)

    def _tell_again(self) -> None:
        """Put into Redis again what was told of captures under way: one that fails over, or is restored, may have lost it."""
        if not self._told:
            return
        try:
            under_way = {journal.capture_id for journal in self.host.journal.unended()}
        except OSError as error:
            log.warning("captures under way cannot be listed", why=str(error))
            return
        self._told = {place: result for place, result in self._told.items() if place[0] in under_way}
        for (capture_id, place), result in self._told.items():
            self._put(capture_id, place, result)

    def _publish(self, capture_id: str, uses: tuple[StorageUse, ...], unseen: str = "") -> None:
        told = SeenUses(capture_id=capture_id, host_id=self.host.host_id, uses=uses, writers_unseen=unseen)
        result = told.model_dump_json()
        part = hashlib.sha256(result.encode()).hexdigest()
        place = names.result_field(names.SEEN_USES, self.host.host_id, part)
        if (capture_id, place) not in self._told and self._put(capture_id, place, result):
            self._told[capture_id, place] = result

    def _put(self, capture_id: str, place: str, result: str) -> bool:
        """Put a result into Redis unless it is there; return False if Redis does not take it now."""
        key = names.results_key(capture_id)
        try:
            self.host.redis.hsetnx(key, place, result)
            self.host.redis.expire(key, RESULTS_KEEP_S)
        except redis.RedisError as error:
            log.warning("a writer is not told of yet", capture=capture_id, why=str(error))
            self._pending = True
            return False
        return True

    def _used_since(self, begun_ns: int) -> list[fitness.DiskUse]:
        return [use for one in self._seen if one.reaches(begun_ns) for use in one.uses]

    def _check(self, doubt: _Doubt, found: Look) -> None:
        """Give a backup up if another guest writes to it. Raises OSError, ValueError if the journal does not take it."""
        journal, one, others, begun_ns = doubt
        if unseen := found.unseen or next((use.unseen for use in found.uses if use.unseen), ""):
            self._own_unseen(one, unseen, begun_ns)
        own = {use.target: use for use in found.uses}
        for target in one.targets:
            if target not in own or journal.result(Step.TRANSFER, f"{one.guest_uuid}.{target}") is not None:
                continue
            mine = (one.guest_uuid, target)
            rest = [use for use in others if (use.guest_uuid, use.target) != mine]
            reason = fitness.shared_reason(*mine, [own[target], *rest])
            if reason is not None:
                error = SecondWriterError.of(NamedGuest(one.guest, one.guest_uuid), target, reason)
                log.warning("giving up a backup", capture=one.capture_id, guest=one.guest, why=error.message)
                ending.note(self.host, one, Fault.of(error, guest=one.guest, host=self.host.host_id, disk=target))
                _start_to_end(self.host, one)
                return

    def _own_unseen(self, one: OpenBackup, why: str, begun_ns: int) -> None:
        """Ask for the captured guest's own storage again; once a guest that came is gone, only its storage could tell."""
        self._pending = True
        if any(seen.until_ns is not None and seen.uses and seen.reaches(begun_ns) for seen in self._seen):
            self._publish(one.capture_id, (), f"the storage of guest {one.guest} is not known: {why}")


def _held_guests(journal: CaptureJournal) -> tuple[GuestProof, ...] | None:
    """Return the guests of a hold's result; None while it is not over, and none if it is of another boot of the host.

    Raises OSError, ValueError if there is one that cannot be read.
    """
    text = journal.result(Step.HOLD, "")
    if text is None:
        return None
    proof = HoldResult.model_validate_json(text).proof
    return proof.guests if proof and proof.boot_id == boot_id() else ()


def _unread(journal: CaptureJournal, error: OSError | ValueError) -> str:
    why = error.strerror or str(error) if isinstance(error, OSError) else "it is damaged or of another version"
    return f"the host cannot read its own answer to the hold of capture {journal.capture_id} ({why})"


def _start_to_end(host: Host, one: OpenBackup) -> None:
    """End a backup that was given up, in a thread of its own; without one the watcher of scratch files ends it later."""
    try:
        threading.Thread(target=_end, args=(host, one), name=f"end-{one.guest}", daemon=True).start()
    except NO_THREAD as error:
        log.error("a backup cannot be ended yet", capture=one.capture_id, guest=one.guest, why=str(error))  # noqa: TRY400


def _end(host: Host, one: OpenBackup) -> None:
    try:
        ending.end(host, one)
    except Exception as error:  # the watcher of scratch files ends it when its transfers have failed
        log.exception("a backup was not ended", capture=one.capture_id, guest=one.guest, why=str(error))


def watch_forever(host: Host, stop: threading.Event) -> None:
    """Watch until told to stop, with a new connection whenever libvirt was lost."""
    watch = WriterWatch(host)
    while not stop.is_set():
        try:
            with GuestEvents(host.hypervisor) as events:
                watch.begin()
                while not stop.is_set() and events.alive():
                    watch.take(events.wait(AGAIN_S))
        except FreezeframeError as error:
            log.warning("events of guests are not told", why=str(error))
        except Exception:
            log.exception("second writers could not be looked for")
        stop.wait(AGAIN_S)
