"""Decide whether a capture still holds a guest: the one check of release, recovery, and a thaw that is sent again.

The guard's lease says so, whatever has become of the worker. A lease is on disk before any guest of it is held, and names a
guest until that was disarmed, or let go and seen running for so long that no call can be pending (`workers/guard/table.py`):

    the lease                      the guest
    names it                       may be held by the capture, and is let go
    does not name it, or is gone   was disarmed or retired, or was never armed: if it is held, others hold it
    cannot be read, is damaged     may be held, and is let go: it must not stay so
    does not name it, and the      left this host held, so nobody has seen it run, and is let go (`workers/left_held.py`)
    journal says that it has left

What an administrator or another tool has paused or frozen meanwhile is left so. A suspend that waits in a QEMU that is itself
suspended retires no lease: each look of the guard sends a resume, which waits behind it (`Domain.let_run`).

No lease may be taken for a lease that has gone only where leases of this host's guard are found. So a worker looks for its
own as soon as the guard has acknowledged it, and holds no guest if it is not there.
"""

from __future__ import annotations

from collections.abc import Sequence

from workers.changes import left_held
from workers.guard.client import GuardError
from workers.guard.lease import leased
from workers.host import Host
from workers.journal import AnyChange, CaptureJournal, LetGoChange


class GuardElsewhereError(GuardError):
    """The guard keeps its leases where the worker does not find them: after a crash nobody would know who holds a guest."""

    code = "guard-elsewhere"
    advice = (
        "Give `freezeframe guard` and the workers of this host the same state_dir, and start the guard again. No guest was "
        "held on this host."
    )


def check_leased(host: Host, capture_id: str, guests: Sequence[str]) -> None:
    """Raise GuardElsewhereError unless the lease that the guard has acknowledged is where undoing will look for it."""
    state_dir = host.settings.state_dir
    if not (leased(state_dir, capture_id) or frozenset()).issuperset(guests):
        raise GuardElsewhereError(f"The thaw guard has taken a lease, and has not put it below {state_dir}.")


def may_hold(host: Host, journal: CaptureJournal, guest_uuid: str, changes: Sequence[AnyChange]) -> bool:
    """Return False if the capture holds the guest no more, or never did; True also if that is not known."""
    if any(isinstance(change, LetGoChange) for change in changes):
        return False
    if left_held(changes) is not None:
        return True
    named = leased(host.settings.state_dir, journal.capture_id)
    return named is None or guest_uuid in named
