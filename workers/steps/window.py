"""The hold window of one host: all its guests held side by side, the barrier, and every guest told to go.

    a thread for each guest      take ──────┐                      ┌─ release (a second thread for each guest)
    this thread                  ◀── ends ──┴─ report, wait ───────┴─ disarm what is settled ─ wait for one more ─ disarm it ─ …
                                 └────────────── hold_timeout_s ───┘└─────────────────── GIVE_UP_S at most ───────────────────┘

The window always ends. A guest whose call hangs is given up: it costs its threads, and the guard keeps its lease. A guest that
failed ends the wait at once under policy `all`; else the host reports without it, after a share of the hold's time if it hangs
(`pace.TAKE_SHARE`). So it does without any guest: the guests of other hosts wait for its report.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Final

import redis
import structlog

from freezeframe import redis_fault
from freezeframe.barrier import Gate, GateBrokenError, GateTakenError, GateUnreachableError
from freezeframe.contract.order import HoldOrder
from freezeframe.errors import EXIT_UNREACHABLE, FreezeframeError
from workers.bounded import GuestCalls, GuestHangsError
from workers.pace import take_s
from workers.steps.guest_in_hold import HeldGuest, Phase
from workers.steps.once import ReportedError

log = structlog.get_logger("hold")

#: End the lease of guests; return False if the guard has let go of them before, or may have.
Disarm = Callable[[Sequence[str]], bool]

#: Seconds in which guests are to be let go and calls to return, on top of an agent's answers: one to thaw, one to the question.
GIVE_UP_S: Final = 5.0
#: The longest of it; the orchestrator counts a host as silent 30 s after its hold (`orchestrator.decision.HOLD_SLACK_S`).
LONGEST_GIVE_UP_S: Final = 25.0
#: Of it, the first seconds, in which guests that run again are disarmed together: the guard writes once, not once for each. A
#: lease is longer than the hold by more than that, by default (`guard_grace_s`).
TOGETHER_S: Final = 0.1


class BarrierError(FreezeframeError):
    """Redis refused the barrier, or was away, while guests were held."""

    code = "barrier"
    exit_code = EXIT_UNREACHABLE


@dataclass
class Window:
    """The observations of one hold window."""

    report_ns: int | None = None
    woken_ns: int | None = None
    stood: frozenset[str] = frozenset()  # guests whose lease stood until this host disarmed it
    fault: FreezeframeError | None = None


def is_pending(calls: GuestCalls, guest_uuid: str) -> bool:
    """Return True if a call of an earlier hold of this guest was given up and has not returned: it may still begin a backup."""
    return any(calls.is_hanging(key) for key in (_hold_key(guest_uuid), _let_go_key(guest_uuid)))


def _hold_key(guest_uuid: str) -> str:
    return f"{guest_uuid} hold"


def _let_go_key(guest_uuid: str) -> str:
    return f"{guest_uuid} let go"


def hold_window(
    calls: GuestCalls,
    order: HoldOrder,
    guests: Sequence[HeldGuest],
    barrier: Gate,
    disarm: Disarm,
    agent_timeout_s: int,
) -> Window:
    """Hold all guests, meet the other hosts, let all guests go. Whatever happens, every guest is told to go."""
    window = Window()
    deadline = time.monotonic() + order.hold_timeout_s
    takes: dict[str, Future[None]] = {}
    try:
        if _all_taken(calls, order, guests, takes, deadline, disarm):
            window.report_ns = time.monotonic_ns()
            barrier.meet(deadline, secrets.token_hex(8) if guests else "")
            window.woken_ns = time.monotonic_ns()
    except GateBrokenError as error:
        log.warning("the barrier did not release", why=str(error))
    except GateTakenError as error:
        log.warning("the barrier did not release these guests", why=str(error))
        window.fault = ReportedError(f"Host {order.host_id} reported in this hold before, without these guests.")
    except (GateUnreachableError, redis.RedisError) as error:
        log.warning("the barrier did not release", why=str(error))
        window.fault = _barrier_fault(error)
    finally:
        releases = {guest.uuid: _started(calls, _let_go_key(guest.uuid), guest, guest.release) for guest in guests}
        if window.woken_ns is None and not isinstance(window.fault, ReportedError):  # that report stands
            break_up(barrier, order.host_id)
    _end(calls, guests, (takes, releases), disarm, window, agent_timeout_s)
    for guest in guests:
        guest.tell_late()
    return window


def _all_taken(
    calls: GuestCalls,
    order: HoldOrder,
    guests: Sequence[HeldGuest],
    takes: dict[str, Future[None]],
    deadline: float,
    disarm: Disarm,
) -> bool:
    """Hold all guests side by side; return True if this host may report."""
    ended: SimpleQueue[HeldGuest] = SimpleQueue()
    take_deadline = deadline - order.hold_timeout_s + take_s(order.hold_timeout_s, all_or_nothing=order.all_or_nothing)
    for guest in guests:
        take = _taking(guest, take_deadline, ended, disarm)
        takes[guest.uuid] = _started(calls, _hold_key(guest.uuid), guest, take)
        if guest.phase is Phase.WAITING and guest.faults:  # not started: the others need not wait for it
            ended.put(guest)
    lost = False
    for _ in guests:
        try:
            guest = ended.get(timeout=max(0.0, take_deadline - time.monotonic()))
        except Empty:
            log.warning("guests were not held in time")
            lost = True
            for one in guests:
                one.leave_behind()
            break
        lost = lost or guest.begun_ns is None
        if lost and order.all_or_nothing:
            return False  # the others need not be held until the slowest has ended
    if lost:
        _release_lost(calls, guests)
    return not (lost and order.all_or_nothing)


def _taking(guest: HeldGuest, deadline: float, ended: SimpleQueue[HeldGuest], disarm: Disarm) -> Callable[[], None]:
    def take() -> None:
        guest.take(deadline, lambda: ended.put(guest))
        if guest.phase is Phase.LEFT_ALONE:
            disarm([guest.uuid])  # at once: the guard must leave it alone too

    return take


def _started(calls: GuestCalls, key: str, guest: HeldGuest, call: Callable[[], None]) -> Future[None]:
    """Start a call. One that cannot be started has failed: a call of an earlier hold hangs, or no thread is left."""
    try:
        return calls.start(key, call)
    except (GuestHangsError, RuntimeError) as error:
        fault = error if isinstance(error, GuestHangsError) else GuestHangsError(f"No thread can be started: {error}.")
        guest.faults.append(fault)
        failed: Future[None] = Future()
        failed.set_result(None)
        return failed


def _release_lost(calls: GuestCalls, guests: Sequence[HeldGuest]) -> None:
    """Let go of the guests that the others no longer wait for."""
    for guest in guests:
        if guest.begun_ns is None:
            _started(calls, f"{guest.uuid} give up", guest, guest.release)


def _end(
    calls: GuestCalls,
    guests: Sequence[HeldGuest],
    started: tuple[dict[str, Future[None]], dict[str, Future[None]]],
    disarm: Disarm,
    window: Window,
    agent_timeout_s: int,
) -> None:
    """Disarm each guest as soon as it is settled, wait for the others within bounds, and give up what has not ended then.

    A guest that is given up keeps its lease, and the guard looks after it. The others must not wait for it with theirs: a lease
    that runs out meanwhile proves nothing.
    """
    takes, releases = started
    until = time.monotonic() + min(2 * agent_timeout_s + GIVE_UP_S, LONGEST_GIVE_UP_S)
    wait(releases.values(), max(0.0, min(TOGETHER_S, until - time.monotonic())))
    disarmed: set[str] = set()
    while True:
        # listed before the guests are looked at: what ends after that is waited for, and does not escape the look
        pending = [future for future in (*takes.values(), *releases.values()) if not future.done()]
        settled = [guest.uuid for guest in guests if guest.uuid not in disarmed and guest.is_settled()]
        if settled and disarm(settled):
            window.stood |= frozenset(settled)
        disarmed.update(settled)
        left_s = until - time.monotonic()
        if not pending or left_s <= 0:
            break
        wait(pending, left_s, return_when=FIRST_COMPLETED)
    for guest in guests:
        _give_up(calls, guest, takes.get(guest.uuid), releases[guest.uuid], is_settled=guest.uuid in disarmed)


def _give_up(
    calls: GuestCalls, guest: HeldGuest, take: Future[None] | None, release: Future[None], *, is_settled: bool
) -> None:
    """Wait no longer for a guest's calls. It is the guest's fault, unless it runs and the call can only let it go."""
    for key, future in ((_hold_key(guest.uuid), take), (_let_go_key(guest.uuid), release)):
        if future is not None and not future.done():
            calls.give_up(key, future)
            if not is_settled:
                guest.faults.append(
                    GuestHangsError(f"A call that holds guest {guest.domain.name} or lets it go has not ended.")
                )


def _barrier_fault(error: GateUnreachableError | redis.RedisError) -> FreezeframeError | None:
    """Return Redis's own trouble, in its words; None if only another host was late."""
    fault = error.fault if isinstance(error, GateUnreachableError) else error
    if fault is None:
        return None
    return BarrierError(
        f"The hosts could not meet while guests were held: {redis_fault.words_of(fault)}",
        advice=f"{redis_fault.advice_for(fault)} All guests were let go.",
    )


def break_up(gate: Gate, who: str) -> None:
    """Tell the others not to wait. Best effort: they have deadlines of their own."""
    try:
        gate.break_up(f"{who} gave up")
    except redis.RedisError as error:
        log.warning("the others could not be told", why=str(error))
