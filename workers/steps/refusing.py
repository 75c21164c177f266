"""Refuse a guest in prepare: undo what was done for it, and answer with the reason. The host's other guests go on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import structlog

from freezeframe.contract.fault import Fault
from freezeframe.contract.result import PreparedGuest
from freezeframe.errors import FreezeframeError
from freezeframe.naming import NamedGuest
from workers import fitness, host_calls
from workers.host import Host
from workers.identity.uses import disk_uses
from workers.journal import CaptureJournal
from workers.steps.each_guest import each_guest
from workers.steps.undo import undo_guest

log = structlog.get_logger("prepare")

#: Seconds for libvirt and all storage to tell what all guests use, and the least where an order is about to end: storage alone
#: has 8 (`identity/uses.PATIENCE_S`).
USES_S: Final = 20.0
LEAST_USES_S: Final = 9.0
#: Seconds for undoing what was prepared of all guests that are refused; of one it takes milliseconds.
UNDO_S: Final = 5.0


def refuse(host: Host, journal: CaptureJournal, guest_uuid: str, name: str, error: FreezeframeError) -> PreparedGuest:
    """Undo what was prepared of a guest, and return the refusal."""
    undo_guest(host, journal, guest_uuid, sealed=False)
    return _refused(host, guest_uuid, name, error)


def uses_here(host: Host, guests: Sequence[PreparedGuest], patience_s: float = USES_S) -> Sequence[fitness.DiskUse]:
    """Return what all running guests of this host use, once for an order. Raises FreezeframeError if a guest is ready.

    Also where every guest was refused: they run on, and may write to a disk that is captured on another host.
    """
    try:
        return host_calls.answered(host, "the storage of all guests", patience_s, lambda: disk_uses(host.hypervisor))
    except FreezeframeError:
        if any(guest.fault is None for guest in guests):
            raise
        return []  # the reason of each refusal too, and this host takes no part


def patience_for_uses_s(not_after: datetime) -> float:
    """Return the seconds that `uses_here` has in an order: its answer is of use until the order's end."""
    left_s = (not_after - datetime.now(UTC)).total_seconds() - UNDO_S
    return max(LEAST_USES_S, min(USES_S, left_s))


def refuse_shared(
    host: Host, journal: CaptureJournal, guests: Sequence[PreparedGuest], uses: Sequence[fitness.DiskUse]
) -> list[PreparedGuest]:
    """Refuse each prepared guest with a captured disk that another running guest may write to; the others as they are.

    One that libvirt does not answer for is undone when it does: nobody waits for that.
    """
    errors = {guest.guest_uuid: error for guest in guests if (error := _shared(guest, uses)) is not None}
    names = {guest.guest_uuid: guest.name for guest in guests}

    def work(uuid: str) -> None:
        with journal.guest(uuid).lock():
            undo_guest(host, journal, uuid, sealed=False)

    answers = each_guest(host.calls, list(errors), "undoing what was prepared of it", UNDO_S, work)
    for uuid, answer in answers.items():
        if isinstance(answer, Exception):
            log.warning("a refused guest is not undone yet", guest=names[uuid], why=str(answer))
    return [
        _refused(host, guest.guest_uuid, guest.name, errors[guest.guest_uuid]) if guest.guest_uuid in errors else guest
        for guest in guests
    ]


def _shared(guest: PreparedGuest, uses: Sequence[fitness.DiskUse]) -> FreezeframeError | None:
    for disk in guest.disks:  # a guest that was refused has none
        reason = fitness.shared_reason(guest.guest_uuid, disk.target, uses)
        if reason is not None:
            return fitness.not_capturable(NamedGuest(guest.name, guest.guest_uuid), disk.target, reason)
    return None


def _refused(host: Host, guest_uuid: str, name: str, error: FreezeframeError) -> PreparedGuest:
    return PreparedGuest(guest_uuid=guest_uuid, name=name, fault=Fault.of(error, guest=name, host=host.host_id))
