"""Hold: the only step in which guests are kept still, one local task per host, nothing slow or remote in it but the barrier.

    muster ─▶ arm ─▶ ┌ per guest, side by side:  hold ── begin backup ┐ ─▶ report, wait ─▶ ┌ let go ── verify ┐ ─▶ disarm
    (no guest is     └────────────────────────────────────────────────┘    (the barrier)   └──────────────────┘
     held yet)       ◀──────────────────────────── the hold window ────────────────────────────────────────▶

- Guests that are quick to hold start later, by what is remembered of each, so that all are held together (`workers.pace`).
- The journal has every hold and backup before the muster, so no fsync lies within the window.
- Redis's clock is read before the muster and after the window, for showing all hosts' steps on one line; never within.
- Under policy `degrade` a host meets the others whatever its own trouble is: none of its guests is fit, its guard is gone, its
  state directory is full or fails, no thread can be started. They lose nothing by it (`without_guests` for trouble before this
  step).
- The guard is asked before the muster. Under policy `all` a host that cannot take part breaks up muster and barrier: nobody
  waits for it.
- A host reports once (`once`): a second delivery holds no guest, whatever the journal has lost. Redis is asked before the
  muster: after it other hosts may hold their guests and wait for this one.
- The lease's deadline is later than the hold's own by the guard's grace: the host lets its guests go by itself first.
- A guest that the guard still lets go of, so that it could undo the hold, is not leased (`leasing`); all others are, at once.
- A guest is disarmed, and written down as let go, when it was seen running and no call that holds it is pending. Others keep
  their lease; the guard looks after them.
- Guests are let go before anybody is told why: a broken barrier, a passed deadline, a failed guest.
- When all guests run they are looked at once more: one whose disks are not those that were prepared takes no part (`premises`).
- What a guest's thaw answers is compared with what its freeze answered, and the guard is asked whether the lease still
  stood; if either says that somebody else let the guest go in between, the proof says so and claims nothing for it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

import redis
import structlog

from freezeframe import redis_fault
from freezeframe.barrier import (
    Gate,
    GateBrokenError,
    GateReply,
    GateUnreachableError,
    await_clock,
    gate_client,
    read_clock,
)
from freezeframe.contract.clock import ClockReading
from freezeframe.contract.fault import Fault
from freezeframe.contract.order import HoldOrder
from freezeframe.contract.proof import HostProof
from freezeframe.contract.result import HeldGuestFault, HoldResult
from freezeframe.errors import EXIT_UNREACHABLE, FreezeframeError
from workers.boot import boot_id
from workers.fitness import later_uses
from workers.guard.client import GuardLine
from workers.host import Host
from workers.hypervisor.freeze_failure import SlowFreezeError
from workers.journal import CaptureJournal
from workers.steps.guest_in_hold import HeldGuest
from workers.steps.guest_locks import lock_guests
from workers.steps.held_guest import ready, try_to_record_let_go
from workers.steps.leasing import arm
from workers.steps.once import ReportedError, check_first
from workers.steps.part import Part
from workers.steps.premises import look_again
from workers.steps.prepared import told_uses
from workers.steps.window import Disarm, Window, break_up, hold_window

log = structlog.get_logger("hold")

#: The gates of a hold: the muster, and the barrier at which every host reports that its guests are held.
MEETINGS: Final = ("muster", "held")


class MusterError(FreezeframeError):
    """Not every host came to the muster; no guest was held."""

    code = "muster"
    exit_code = EXIT_UNREACHABLE
    advice = "A host's control worker is down or busy; `freezeframe hosts` shows which. No guest was held."


def hold(host: Host, order: HoldOrder) -> HoldResult:
    """Hold all guests of an order. Raises FreezeframeError only while no guest is held."""
    journal = host.journal.of(order.capture_id)
    with gate_client(host.bus) as client, ExitStack() as stack:
        muster, barrier = gates(client, order)
        part = Part()
        try:
            line = _take_part(host, order, journal, part, stack)
            deadline = time.monotonic() + order.muster_timeout_s
            clock = _clock_before(client, order, deadline)
            _report_once(order, part, barrier, deadline)
            _muster(muster, order, deadline)
            if line is not None and part.guests:
                _lease(host, order, part, line)
        except BaseException as error:  # whatever it is, the other hosts must not wait for this one, and none was held
            for gate in (muster, barrier):
                break_up(gate, host.host_id)
            part.give_up()
            part.tell(host, order, journal)
            if not isinstance(error, MusterError) or not part.unfit:
                raise
            given_up = failed(order, Fault.of(error, host=host.host_id))  # with what kept this host's guests out
            return given_up.model_copy(update={"guest_faults": tuple(part.unfit)})
        guests = part.guests
        began = time.monotonic()
        window = hold_window(host.calls, order, guests, barrier, _disarming(line, order), host.settings.agent_timeout_s)
        try_to_record_let_go(journal, [guest for guest in guests if guest.is_settled()])
        part.tell(host, order, journal)
        _remember_paces(host, guests)
        reply = _look(barrier)
        clocks = {"clock_before": clock, "clock_after": _clock_after(client) if reply else None}
        released = window.woken_ns is not None
        warnings, writers = look_again(host, guests, began, order.hold_timeout_s, released=released)
        proof = _proof(host, guests, window).model_copy(update=clocks)
        result = _result(host, order, guests, part.unfit, proof, window, reply)
        told = told_uses(journal)
        more = {"uses": later_uses(writers.uses, told), "writers_unseen": writers.unseen, "arrived_us": barrier.own_us}
        return result.model_copy(update={"guest_warnings": warnings, **more})


def _take_part(host: Host, order: HoldOrder, journal: CaptureJournal, part: Part, stack: ExitStack) -> GuardLine | None:
    """Make the guests ready; return a connection to the guard for the hold, or None if there is no guest to lease.

    Under policy `degrade` no trouble of this host takes the other hosts' part: none of its guests is held, and each has the
    trouble as its fault. Under `all` raises whatever it is.
    """
    try:
        part.guests += ready(host, lock_guests(host, order, journal, stack, part.unfit), journal, part.unfit)
        if not part.guests:
            return None
        line = stack.enter_context(GuardLine(host.settings.guard_socket))
        line.ping()
    except Exception as error:  # noqa: BLE001  whatever it is, it is this host's trouble
        part.hold_none(order, error)
        return None
    return line


def _report_once(order: HoldOrder, part: Part, barrier: Gate, deadline: float) -> None:
    """Have no guest in the hold if this host has reported in it already. Under policy `all` raises then."""
    if not part.guests:
        return
    try:
        check_first(barrier, order, deadline)
    except ReportedError as error:
        part.hold_none(order, error)


def _lease(host: Host, order: HoldOrder, part: Part, line: GuardLine) -> None:
    """Lease the guests, and have only those in the hold that are. Under policy `all` raises if one is not."""
    try:
        leased = arm(host, order, part.guests, line, part.unfit)
    except Exception as error:  # noqa: BLE001  whatever it is, it is this host's trouble
        part.hold_none(order, error)
        return
    part.keep(leased)


def gates(client: redis.Redis, order: HoldOrder) -> tuple[Gate, Gate]:
    """Return the two meetings of a hold, the muster and the barrier, as the order's host sees them."""
    muster, barrier = (
        Gate(client, order.capture_id, order.epoch, name, order.host_id, order.members) for name in MEETINGS
    )
    return muster, barrier


def give_up(host: Host, order: HoldOrder) -> None:
    """Have no other host wait for this one, whose hold was refused before it began, or whose worker died in it.

    Of `order` only the fields are there that can be read. Without the epoch nothing says which meeting the others wait in.
    """
    known = vars(order)
    if known.get("host_id") != host.host_id or "epoch" not in known:
        return  # an order that is not for this host, or that names no meeting
    with gate_client(host.bus) as client:
        for name in MEETINGS:
            # who gives up need not know how many the others are
            break_up(Gate(client, order.capture_id, order.epoch, name, host.host_id, 1), host.host_id)


def failed(order: HoldOrder, fault: Fault) -> HoldResult:
    return HoldResult(capture_id=order.capture_id, host_id=order.host_id, fault=fault)


def _proof(host: Host, guests: Sequence[HeldGuest], window: Window) -> HostProof:
    return HostProof(
        host_id=host.host_id,
        boot_id=boot_id(),
        report_ns=window.report_ns,
        woken_ns=window.woken_ns,
        guests=tuple(guest.proof(lease_stood=guest.uuid in window.stood) for guest in guests),
    )


def _clock_before(client: redis.Redis, order: HoldOrder, deadline: float) -> ClockReading:
    """Redis's clock while no guest is held. It is the first that is asked of Redis, and makes the gates' connection warm."""
    try:
        return await_clock(client, deadline)
    except GateUnreachableError as error:
        raise _muster_error(error, f"Redis did not answer within {order.muster_timeout_s:g} s.") from error


def _clock_after(client: redis.Redis) -> ClockReading | None:
    """Redis's clock when all guests were let go. Best effort: nothing that is proven needs it."""
    try:
        return read_clock(client)
    except redis.RedisError:
        return None


def _muster(gate: Gate, order: HoldOrder, deadline: float) -> None:
    """Meet the other hosts while no guest is held."""
    try:
        gate.meet(deadline)
    except GateUnreachableError as error:
        raise _muster_error(error, f"Not every host came to the muster within {order.muster_timeout_s:g} s.") from error
    except GateBrokenError as error:
        raise MusterError("Another host gave up the muster.") from error


def _muster_error(error: GateUnreachableError, otherwise: str) -> MusterError:
    """Tell Redis's own trouble as Redis's: "not every host came" would send the operator to the wrong machine."""
    if error.fault is None:
        return MusterError(otherwise)
    advice = f"{redis_fault.advice_for(error.fault)} No guest was held."
    return MusterError(f"The hosts could not meet: {redis_fault.words_of(error.fault)}", advice=advice)


def _disarming(line: GuardLine | None, order: HoldOrder) -> Disarm:
    """Return the end of leases. Without a line no guest has one."""
    return lambda guests: line is not None and line.disarm(order.capture_id, guests)


def _remember_paces(host: Host, guests: Sequence[HeldGuest]) -> None:
    """Remember how long each guest took, and of one that ran out of time that it takes at least as long; best effort."""
    try:
        for guest in guests:
            if guest.begun_ns is not None and guest.hold_start_ns is not None:
                host.paces.remember(guest.uuid, (guest.begun_ns - guest.hold_start_ns) / 1e6)
            for fault in guest.faults:
                if isinstance(fault, SlowFreezeError):
                    host.paces.remember_too_slow(guest.uuid, fault.seconds * 1000)
    except OSError as error:
        log.warning("how long guests took is not remembered", why=str(error))


def _look(gate: Gate) -> GateReply | None:
    try:
        return gate.look()
    except redis.RedisError:
        return None


def _result(
    host: Host,
    order: HoldOrder,
    guests: Sequence[HeldGuest],
    unfit: Sequence[HeldGuestFault],
    proof: HostProof,
    window: Window,
    reply: GateReply | None,
) -> HoldResult:
    # under `degrade` what another delivery has reported stands, for the sake of the other hosts; it was without these guests
    of_guests = window.fault if isinstance(window.fault, ReportedError) and not order.all_or_nothing else None
    faults = [
        HeldGuestFault(guest_uuid=guest.uuid, fault=Fault.of(error, guest=guest.domain.name, host=host.host_id))
        for guest in guests
        if (error := guest.faults[0] if guest.faults else of_guests)
    ]
    return HoldResult(
        capture_id=order.capture_id,
        host_id=host.host_id,
        fault=Fault.of(window.fault, host=host.host_id) if window.fault and not of_guests else None,
        proof=proof,
        release_us=reply.at_us if reply and reply.state == "released" else None,
        release_arrivals=reply.arrived if reply and reply.state == "released" else None,
        guest_faults=(*unfit, *faults),
    )
