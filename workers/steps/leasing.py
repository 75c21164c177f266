"""Lease guests from the thaw guard: before their hold, and asked ahead in prepare whether that can succeed.

A guest that the guard still lets go of, under the lease of an earlier capture, is refused by name; it costs its host's other
guests neither their leases nor time. Only a look that would undo the new hold counts: a guest whose agent has hung since an
earlier freeze can be captured with `pause`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from freezeframe.contract.fault import Fault
from freezeframe.contract.order import HoldOrder
from freezeframe.contract.plan import GuestPlan
from freezeframe.contract.result import HeldGuestFault
from freezeframe.contract.words import HoldKind
from freezeframe.naming import NamedGuest
from workers.guard.client import GuardLine
from workers.guard.lease import LeasedGuest
from workers.host import Host
from workers.refusal import StillLetGoError
from workers.steps.guest_in_hold import HeldGuest
from workers.steps.let_go_since import check_leased

#: Seconds that a guest is waited for in prepare: a look at one that does not answer, a pause, and one more look.
INQUIRY_S: Final = 20.0


def check_let_go(host: Host, plan: GuestPlan) -> None:
    """Wait until the guard has let go of a guest under earlier leases. Raises StillLetGoError, GuardError."""
    if plan.hold.kind is HoldKind.NONE:
        return
    asked = LeasedGuest(guest_uuid=plan.guest_uuid, hold=plan.hold.kind)
    with GuardLine(host.settings.guard_socket) as line:
        refused = line.inquire([asked], INQUIRY_S)
    if plan.guest_uuid in refused:
        raise StillLetGoError(NamedGuest(plan.name, plan.guest_uuid), plan.hold.kind, refused[plan.guest_uuid])


def arm(
    host: Host, order: HoldOrder, guests: Sequence[HeldGuest], line: GuardLine, unfit: list[HeldGuestFault]
) -> list[HeldGuest]:
    """Lease the guests and return those that may be held. No acknowledgement, no hold.

    A guest that is refused ends the hold under policy `all`; else it is added to `unfit`, and the others go on. Raises
    GuardError, StillLetGoError; then nothing is leased. Nor may a guest be held under a lease that undoing would not find.
    """
    asked = [_leased(guest) for guest in guests]
    refused = line.arm(order.capture_id, asked, order.hold_timeout_s + host.settings.guard_grace_s)
    if refused:
        _refuse(host, order, guests, refused, line, unfit)
    leased = [guest for guest in guests if guest.uuid not in refused]
    check_leased(host, order.capture_id, [guest.uuid for guest in leased])
    for guest in leased:
        guest.stands = line.stands
    return leased


def _refuse(
    host: Host,
    order: HoldOrder,
    guests: Sequence[HeldGuest],
    refused: Mapping[str, str],
    line: GuardLine,
    unfit: list[HeldGuestFault],
) -> None:
    errors = [
        (guest, StillLetGoError(_named(guest), guest.hold.kind, refused[guest.uuid]))
        for guest in guests
        if guest.uuid in refused
    ]
    if order.all_or_nothing:
        if len(errors) < len(guests):
            line.disarm(order.capture_id)  # nothing was done to the others; the guard need not look at them
        guest, error = errors[0]
        error.guest = guest.domain.name
        raise error
    unfit += [
        HeldGuestFault(guest_uuid=guest.uuid, fault=Fault.of(error, guest=guest.domain.name, host=host.host_id))
        for guest, error in errors
    ]


def _leased(guest: HeldGuest) -> LeasedGuest:
    return LeasedGuest(
        guest_uuid=guest.uuid,
        hold=guest.hold.kind,
        agent_socket=guest.agent_socket,
        monitor_socket=guest.monitor_socket,
    )


def _named(guest: HeldGuest) -> NamedGuest:
    return NamedGuest(guest.domain.name, guest.uuid)
