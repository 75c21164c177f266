"""The guests of an order to prepare, each by itself: what one of them hangs or fails for is its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

from freezeframe.contract.fault import Fault
from freezeframe.contract.order import PrepareOrder
from freezeframe.contract.plan import GuestPlan
from freezeframe.contract.result import PreparedGuest
from freezeframe.errors import FreezeframeError
from workers.host import Host
from workers.journal import CaptureJournal
from workers.refusal import GuestAtWorkError, GuestTroubleError
from workers.steps.each_guest import each_guest
from workers.steps.host_failure import foreseen
from workers.steps.undo import undo_guest

#: Seconds for all guests of an order. Making a guest's scratch files and asking its agent take less than one.
PATIENCE_S = 60.0
#: Seconds before the order's end at which this host answers: the guests that are ready are not lost with one that hangs.
ANSWER_S = 10.0
LEAST_PATIENCE_S = 5.0


def prepare_each(
    host: Host, order: PrepareOrder, journal: CaptureJournal, prepare_guest: Callable[[GuestPlan], PreparedGuest]
) -> list[PreparedGuest]:
    """Prepare all guests of an order side by side, each under its lock.

    One that hangs has that as its fault, and is undone when the call that hung returns.
    """
    plans = {plan.guest_uuid: plan for plan in order.guests}
    given_up = {uuid: threading.Event() for uuid in plans}

    def prepare(uuid: str) -> PreparedGuest:
        with journal.guest(uuid).lock():
            guest = prepare_guest(plans[uuid])
            if given_up[uuid].is_set():  # it hung, and was told as such: nobody counts on it any more
                undo_guest(host, journal, uuid, sealed=False)
            return guest

    left_s = (order.not_after - datetime.now(UTC)).total_seconds() - ANSWER_S
    answers = each_guest(
        host.calls, list(plans), "preparing it", max(LEAST_PATIENCE_S, min(PATIENCE_S, left_s)), prepare
    )
    guests = []
    for uuid, plan in plans.items():
        answer = answers[uuid]
        if isinstance(answer, Exception):
            given_up[uuid].set()
            answer = _failed(host, plan, answer)
        guests.append(answer)
    return guests


def _failed(host: Host, plan: GuestPlan, error: Exception) -> PreparedGuest:
    if isinstance(error, BlockingIOError):
        error = GuestAtWorkError(f"A step or an undo of this capture is still at work on guest {plan.name}.")
    elif not isinstance(error, FreezeframeError):
        error = foreseen(host, error) or GuestTroubleError(
            f"Guest {plan.name} was not prepared on host {host.host_id}: {type(error).__name__}: {error}."
        )
    fault = Fault.of(error, guest=plan.name, host=host.host_id)
    return PreparedGuest(guest_uuid=plan.guest_uuid, name=plan.name, fault=fault)
