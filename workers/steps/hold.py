"""Hold: the only step in which guests are kept still, one local task per host, nothing slow or remote in it but the barrier.

    muster ─▶ arm ─▶ ┌ per guest, side by side:  hold ── begin backup ┐ ─▶ report, wait ─▶ ┌ let go ── verify ┐ ─▶ disarm
    (no guest is     └────────────────────────────────────────────────┘    (the barrier)   └──────────────────┘
     held yet)       ◀──────────────────────────── the hold window ────────────────────────────────────────▶

- Guests that are quick to hold start later, by what is remembered of each, so that all are held together (`workers.pace`).
- The journal has every hold and backup before the muster, so no fsync lies within the window.
- Redis's clock is read before the muster and after the window, for showing all hosts' steps on one line; never within.
- The lease's deadline is later than the hold's own by the guard's grace: the host lets its guests go by itself first.
- Guests are let go before anybody is told why: a broken barrier, a passed deadline, a failed guest.
- What a guest's thaw answers is compared with what its freeze answered, and the guard is asked whether the lease still
  stood; if either says that somebody else let the guest go in between, the proof says so and claims nothing for it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

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
from workers.guard.client import GuardLine
from workers.guard.lease import LeasedGuest
from workers.host import Host
from workers.journal import CaptureJournal, LetGoChange
from workers.steps.held_guest import HeldGuest, ready

log = structlog.get_logger("hold")

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class MusterError(FreezeframeError):
    """Not every host came to the muster; no guest was held."""

    code = "muster"
    exit_code = EXIT_UNREACHABLE
    advice = "A host's control worker is down or busy; `freezeframe hosts` shows which. No guest was held."


def hold(host: Host, order: HoldOrder) -> HoldResult:
    """Hold all guests of an order. Raises FreezeframeError only while no guest is held."""
    journal = host.journal.of(order.capture_id)
    unfit: list[HeldGuestFault] = []
    guests = ready(host, order, journal, unfit)
    with gate_client(host.bus) as client:
        muster, barrier = (
            Gate(client, order.capture_id, order.epoch, name, host.host_id, order.members)
            for name in ("muster", "held")
        )
        # twice the guests: letting one go must not wait for a thread that another's freeze still blocks
        with ThreadPoolExecutor(2 * len(guests), "hold") as pool, GuardLine(host.settings.guard_socket) as line:
            try:
                deadline = time.monotonic() + order.muster_timeout_s
                clock = _clock_before(client, order, deadline)
                _muster(muster, order, deadline)
                _arm(host, order, guests, line, barrier)
            except FreezeframeError:
                _record_let_go(journal, guests)  # none was held
                raise
            proof = _window(host, order, guests, pool, barrier, line)
        _record_let_go(journal, [guest for guest in guests if guest.thawed_ns is not None])
        _remember_paces(host, guests)
        reply = _look(barrier)
        clocks = {"clock_before": clock, "clock_after": _clock_after(client) if reply else None}
        result = _result(host, order, guests, proof.model_copy(update=clocks), reply)
        return result.model_copy(update={"guest_faults": (*unfit, *result.guest_faults)})


def failed(order: HoldOrder, fault: Fault) -> HoldResult:
    return HoldResult(capture_id=order.capture_id, host_id=order.host_id, fault=fault)


def _window(
    host: Host,
    order: HoldOrder,
    guests: Sequence[HeldGuest],
    pool: ThreadPoolExecutor,
    barrier: Gate,
    line: GuardLine,
) -> HostProof:
    """The hold window. Whatever happens within it, it ends with every guest told to go."""
    deadline = time.monotonic() + order.hold_timeout_s
    report_ns = woken_ns = None
    try:
        if _all_taken(order, guests, pool, deadline):
            report_ns = time.monotonic_ns()
            barrier.meet(deadline)
            woken_ns = time.monotonic_ns()
    except (GateBrokenError, GateUnreachableError, TimeoutError) as error:
        log.warning("the barrier did not release", why=str(error))
    finally:
        going = [pool.submit(guest.let_go) for guest in guests if guest.thaw_start_ns is None]
        if woken_ns is None:
            _break_up(barrier, host.host_id)
        _wait_all(going)
        _wait_all([pool.submit(guest.verify) for guest in guests])
    stood = line.disarm(order.capture_id) if all(guest.thawed_ns is not None for guest in guests) else False
    return HostProof(
        host_id=host.host_id,
        boot_id=_BOOT_ID.read_text(encoding="ascii").strip(),
        report_ns=report_ns,
        woken_ns=woken_ns,
        guests=tuple(guest.proof(lease_stood=stood) for guest in guests),
    )


def _all_taken(order: HoldOrder, guests: Sequence[HeldGuest], pool: ThreadPoolExecutor, deadline: float) -> bool:
    """Hold all guests side by side; whether this host may report. With all or nothing, one failed guest ends the wait."""
    pending = [pool.submit(guest.take) for guest in guests]
    for future in pending:
        future.result(timeout=max(0.0, deadline - time.monotonic()))
    lost = [guest for guest in guests if guest.begun_ns is None]
    return len(lost) < len(guests) if not order.all_or_nothing else not lost


def _wait_all(pending: Sequence[Future[None]]) -> None:
    for future in pending:
        future.result()  # every call in them is bounded by a time-out of its own


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
        _break_up(gate, "a host")
        raise _muster_error(error, f"Not every host came to the muster within {order.muster_timeout_s:g} s.") from error
    except GateBrokenError as error:
        raise MusterError("Another host gave up the muster.") from error


def _muster_error(error: GateUnreachableError, otherwise: str) -> MusterError:
    """Tell Redis's own trouble as Redis's: "not every host came" would send the operator to the wrong machine."""
    if error.fault is None:
        return MusterError(otherwise)
    advice = f"{redis_fault.advice_for(error.fault)} No guest was held."
    return MusterError(f"The hosts could not meet: {redis_fault.words_of(error.fault)}", advice=advice)


def _arm(host: Host, order: HoldOrder, guests: Sequence[HeldGuest], line: GuardLine, barrier: Gate) -> None:
    """No acknowledgement, no hold; and then the other hosts need not wait for this one."""
    try:
        lease_s = order.hold_timeout_s + host.settings.guard_grace_s
        line.arm(order.capture_id, [_leased(guest) for guest in guests], lease_s)
    except FreezeframeError:
        _break_up(barrier, host.host_id)
        raise


def _leased(guest: HeldGuest) -> LeasedGuest:
    return LeasedGuest(guest_uuid=guest.domain.uuid, hold=guest.hold.kind, agent_socket=guest.agent_socket)


def _remember_paces(host: Host, guests: Sequence[HeldGuest]) -> None:
    for guest in guests:
        if guest.begun_ns is not None:
            host.paces.remember(guest.domain.uuid, (guest.begun_ns - guest.hold_start_ns) / 1e6)


def _record_let_go(journal: CaptureJournal, guests: Sequence[HeldGuest]) -> None:
    for guest in guests:
        journal.record(LetGoChange(guest_uuid=guest.domain.uuid))


def _break_up(gate: Gate, who: str) -> None:
    """Tell the others not to wait. Best effort: they have deadlines of their own."""
    try:
        gate.break_up(f"{who} gave up")
    except redis.RedisError as error:
        log.warning("the others could not be told", why=str(error))


def _look(gate: Gate) -> GateReply | None:
    try:
        return gate.look()
    except redis.RedisError:
        return None


def _result(
    host: Host, order: HoldOrder, guests: Sequence[HeldGuest], proof: HostProof, reply: GateReply | None
) -> HoldResult:
    faults = [
        HeldGuestFault(
            guest_uuid=guest.domain.uuid,
            fault=Fault.of(guest.faults[0], guest=guest.domain.name, host=host.host_id),
        )
        for guest in guests
        if guest.faults
    ]
    return HoldResult(
        capture_id=order.capture_id,
        host_id=host.host_id,
        proof=proof,
        arrivals=reply.arrivals if reply else (),
        release_us=reply.at_us if reply and reply.state == "released" else None,
        release_arrivals=reply.arrived if reply and reply.state == "released" else None,
        guest_faults=tuple(faults),
    )
