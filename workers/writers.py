"""Watch for second writers: guests that start, stop or get disks while backups are open, in one thread of the control worker.

    an event of libvirt ─▶ the guest's storage now ─▶ is it a captured disk's that is not read yet? ─▶ its backup is given up
                                                    ├▶ the hold is not over: asked again each second
                                                    └▶ other hosts may have it too: the orchestrator is told

The looks behind the hold and behind each disk (`steps/premises.py`, `steps/sole_writer.py`) find a writer that stays. This
finds one that is gone by then, and ends the backup at once instead of after hours. A writer counts for a backup if it ran at
any time since the backup began, by this host's monotonic clock. While this thread has no connection to libvirt, or the control
worker is down, only the looks see who comes; when it is back, all guests that run then count as new.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

import redis
import structlog

from freezeframe.contract import names
from freezeframe.contract.fault import Fault
from freezeframe.contract.proof import GuestProof
from freezeframe.contract.result import HoldResult, SeenUses
from freezeframe.contract.words import Step
from freezeframe.errors import FreezeframeError
from freezeframe.naming import NamedGuest
from workers import fitness, host_calls
from workers.boot import boot_id
from workers.bounded import NO_THREAD
from workers.host import Host
from workers.hypervisor.guest_events import GuestEvent, GuestEvents
from workers.identity.uses import disk_uses, uses_of_guest
from workers.journal import CaptureJournal
from workers.refusal import SecondWriterError
from workers.scratch import ending
from workers.scratch.open_backups import OpenBackup, given_up, open_backups
from workers.steps.prepared import told_uses
from workers.steps.publication import RESULTS_KEEP_S

log = structlog.get_logger("writers")

#: Seconds for libvirt to tell of one guest, and of all; and until libvirt is asked for events again, or a hold may be over.
ONE_S: Final = 10.0
ALL_S: Final = 30.0
AGAIN_S: Final = 1.0


@dataclass(frozen=True)
class _Seen:
    """The storage that a guest used for a time; `until_ns` is None while it does."""

    guest_uuid: str
    uses: tuple[fitness.DiskUse, ...]
    until_ns: int | None = None


@dataclass
class WriterWatch:
    """The storage that guests have used since they were seen, as far as an open backup may be concerned."""

    host: Host
    _seen: list[_Seen] = field(default_factory=list)
    _pending: bool = False
    _told: set[tuple[str, str]] = field(default_factory=set)  # captures, and what their orchestrator was told

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
            self._replace(uuid, tuple(use for use in uses if use.guest_uuid == uuid), now_ns)
        self._judge()

    def take(self, events: Iterable[GuestEvent]) -> None:
        """Note what guests use since these events, and give up the backups of disks to which they write."""
        for event in events:
            self._replace(event.guest_uuid, () if event.stopped else self._uses(event.guest_uuid), event.at_ns)
            self._pending = True
        if self._pending:
            self._judge()

    def _uses(self, guest_uuid: str) -> tuple[fitness.DiskUse, ...]:
        what = f"the storage of guest {guest_uuid}"
        try:
            return tuple(
                host_calls.answered(self.host, what, ONE_S, lambda: uses_of_guest(self.host.hypervisor, guest_uuid))
            )
        except (FreezeframeError, OSError, ValueError) as error:  # it is gone again, or libvirt does not answer
            log.warning("the storage of a guest that came is not known", guest=guest_uuid, why=str(error))
            return ()

    def _replace(self, guest_uuid: str, uses: tuple[fitness.DiskUse, ...], at_ns: int) -> None:
        """End what the guest used until now, and note what it uses instead."""
        self._seen = [
            replace(one, until_ns=at_ns) if one.guest_uuid == guest_uuid and one.until_ns is None else one
            for one in self._seen
        ]
        if uses:
            self._seen.append(_Seen(guest_uuid, uses))

    def _judge(self) -> None:
        backups = open_backups(self.host)
        self._pending = False
        if not backups:  # what is over concerns no later one
            self._seen = [one for one in self._seen if one.until_ns is None]
        self._tell()
        for one in backups:
            journal = self.host.journal.of(one.capture_id)
            text = journal.result(Step.HOLD, "")
            if text is None:
                self._pending = True  # its own look is still to come, and nobody must end a backup within the hold
                continue
            begun_ns = _begun_ns(text, one.guest_uuid)
            others = [] if begun_ns is None else self._used_since(begun_ns)
            if others and given_up(journal, one.guest_uuid) is None:
                self._check(journal, one, others)

    def _tell(self) -> None:
        """Tell the orchestrator of each capture that is under way who has come since its guests were held."""
        under_way = {journal.capture_id: journal for journal in self.host.journal.unended()} if self._seen else {}
        self._told = {one for one in self._told if one[0] in under_way}
        for capture_id, journal in under_way.items():
            text = journal.result(Step.HOLD, "")
            begun = [guest.begun_ns for guest in _held_guests(text or "") if guest.begun_ns is not None]
            used = self._used_since(min(begun)) if begun else []
            for use in fitness.later_uses(used, told_uses(journal) if used else ()):
                result = SeenUses(capture_id=capture_id, host_id=self.host.host_id, uses=(use,)).model_dump_json()
                if (capture_id, result) not in self._told:
                    self._publish(capture_id, result)

    def _publish(self, capture_id: str, result: str) -> None:
        key, part = names.results_key(capture_id), hashlib.sha256(result.encode()).hexdigest()
        try:
            self.host.redis.hsetnx(key, names.result_field(names.SEEN_USES, self.host.host_id, part), result)
            self.host.redis.expire(key, RESULTS_KEEP_S)
            self._told.add((capture_id, result))
        except redis.RedisError as error:
            log.warning("a writer is not told of yet", capture=capture_id, why=str(error))
            self._pending = True

    def _used_since(self, begun_ns: int) -> list[fitness.DiskUse]:
        return [use for one in self._seen if one.until_ns is None or one.until_ns >= begun_ns for use in one.uses]

    def _check(self, journal: CaptureJournal, one: OpenBackup, others: list[fitness.DiskUse]) -> None:
        own = {use.target: use for use in self._uses(one.guest_uuid)}
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


def _begun_ns(text: str, guest_uuid: str) -> int | None:
    """Return when the hold began the guest's backup; None if it did not, or in another boot of the host."""
    return next((guest.begun_ns for guest in _held_guests(text) if guest.guest_uuid == guest_uuid), None)


def _held_guests(text: str) -> tuple[GuestProof, ...]:
    """Return the guests of a hold's result, if it is of this boot of the host; none if it cannot be read."""
    try:
        proof = HoldResult.model_validate_json(text).proof
    except ValueError:
        return ()
    return proof.guests if proof and proof.boot_id == boot_id() else ()


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
