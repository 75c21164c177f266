"""Whether the guard has let a guest go since its hold: then what pauses or freezes the guest now is not of this capture.

A hold may end without the guest's word that it runs. The guard keeps the lease of such a guest, lets it go, and retires it
when it was seen running for so long that no call can be pending (`workers/guard/table.py`). So a guest that its lease names no
more was let go, and if it is held hours later, others hold it: an administrator, another tool. Undoing must leave that so.

That may be concluded only

- where the lease was seen when the hold ended: a guard with another state directory has none where the worker looks;
- if each call that holds the guest had returned by then, and no pause had failed: one that waits in a QEMU that stands still
  takes effect when QEMU goes on, however long the guest was seen running. (A freeze cannot: the agent answers in turn.)

ReturnedChange says both. Without it, or with a lease that cannot be read, the guest is let go again: it must not stay held.
"""

from __future__ import annotations

from collections.abc import Sequence

from workers.guard.lease import leases
from workers.host import Host
from workers.journal import AnyChange, CaptureJournal, ReturnedChange
from workers.steps.guest_in_hold import HeldGuest


def record_returned(host: Host, journal: CaptureJournal, guests: Sequence[HeldGuest]) -> None:
    """Write down of which guests that have not said that they run the guard alone decides from now on.

    Call it while the line to the guard is open: until it closes no lease is retired.
    """
    for guest in guests:
        if not guest.is_settled() and guest.has_returned() and _is_leased(host, journal, guest.uuid):
            journal.record(ReturnedChange(guest_uuid=guest.uuid))


def was_let_go_since(host: Host, journal: CaptureJournal, guest_uuid: str, changes: Sequence[AnyChange]) -> bool:
    """Return True if the guard has retired the guest; False if that is not known."""
    returned = any(isinstance(change, ReturnedChange) for change in changes)
    return returned and _is_leased(host, journal, guest_uuid) is False


def _is_leased(host: Host, journal: CaptureJournal, guest_uuid: str) -> bool | None:
    return leases(host.settings.state_dir, journal.capture_id, guest_uuid)
