"""Refuse a guest in prepare: undo what was done for it, and answer with the reason. The host's other guests go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from freezeframe.contract.fault import Fault
from freezeframe.contract.result import PreparedGuest
from freezeframe.errors import FreezeframeError
from freezeframe.naming import NamedGuest
from workers import fitness, host_calls
from workers.host import Host
from workers.identity.uses import disk_uses
from workers.journal import CaptureJournal
from workers.steps.undo import undo_guest

#: Seconds for libvirt to tell what all guests use, on a host where no guest is ready.
_USES_S: Final = 20.0


def refuse(host: Host, journal: CaptureJournal, guest_uuid: str, name: str, error: FreezeframeError) -> PreparedGuest:
    """Undo what was prepared of a guest, and return the refusal."""
    undo_guest(host, journal, guest_uuid, sealed=False)
    return PreparedGuest(guest_uuid=guest_uuid, name=name, fault=Fault.of(error, guest=name, host=host.host_id))


def uses_here(host: Host, guests: Sequence[PreparedGuest]) -> list[fitness.DiskUse]:
    """Return what all running guests of this host use, once for an order. Raises HypervisorError if a guest is ready.

    Also where every guest was refused: they run on, and may write to a disk that is captured on another host.
    """
    if any(guest.fault is None for guest in guests):
        return disk_uses(host.hypervisor)
    try:
        return host_calls.answered(host, "the storage of all guests", _USES_S, lambda: disk_uses(host.hypervisor))
    except FreezeframeError:  # the reason of each refusal too, and this host takes no part
        return []


def refuse_shared(
    host: Host, journal: CaptureJournal, guests: Sequence[PreparedGuest], uses: Sequence[fitness.DiskUse]
) -> list[PreparedGuest]:
    """Refuse each prepared guest with a captured disk that another running guest may write to; the others as they are."""
    return [_checked(host, journal, guest, uses) for guest in guests]


def _checked(
    host: Host, journal: CaptureJournal, guest: PreparedGuest, uses: Sequence[fitness.DiskUse]
) -> PreparedGuest:
    for disk in guest.disks:  # a guest that was refused has none
        reason = fitness.shared_reason(guest.guest_uuid, disk.target, uses)
        if reason is not None:
            error = fitness.not_capturable(NamedGuest(guest.name, guest.guest_uuid), disk.target, reason)
            with journal.guest(guest.guest_uuid).lock():
                return refuse(host, journal, guest.guest_uuid, guest.name, error)
    return guest
