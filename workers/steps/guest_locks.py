"""The locks of a hold's guests: no release and no recovery works on a guest of the hold until it is over.

A guest on which an undo is at work, as one whose call hangs, takes no part; it costs its host's other guests nothing.
"""

from __future__ import annotations

from contextlib import ExitStack

from freezeframe.contract.order import GuestToHold, HoldOrder
from freezeframe.contract.result import HeldGuestFault
from workers.host import Host
from workers.journal import CaptureJournal
from workers.refusal import GuestAtWorkError
from workers.steps.held_guest import leave_out
from workers.steps.prepared import name_of


def lock_guests(
    host: Host, order: HoldOrder, journal: CaptureJournal, locks: ExitStack, unfit: list[HeldGuestFault]
) -> HoldOrder:
    """Lock the guests of an order until `locks` is closed, and return the order with those that are locked.

    A guest whose lock another has, or whose lock file cannot be opened, ends the hold under policy `all`; else it is added to
    `unfit`. Raises FreezeframeError, OSError.
    """
    locked: list[GuestToHold] = []
    for guest in order.guests:
        try:
            locks.enter_context(journal.guest(guest.guest_uuid).lock())
        except OSError as error:
            name = name_of(journal, guest.guest_uuid)
            leave_out(host, order, unfit, guest.guest_uuid, name, _reason(journal, name, error))
        else:
            locked.append(guest)
    return order.model_copy(update={"guests": tuple(locked)})


def _reason(journal: CaptureJournal, name: str, error: OSError) -> Exception:
    if isinstance(error, BlockingIOError):
        return GuestAtWorkError(f"A step or an undo of capture {journal.capture_id} is still at work on guest {name}.")
    return error
