"""A host reports once in a hold: the barrier keeps what the journal of a disk that was full, or is lost, does not.

delivery 1   arrives ──▶ the barrier releases ──▶ all hosts let their guests go
delivery 2                                          └─ guests that it would hold now are of another instant: it holds none
"""

from __future__ import annotations

from freezeframe import redis_fault
from freezeframe.barrier import Gate, GateUnreachableError
from freezeframe.contract.order import HoldOrder
from freezeframe.errors import EXIT_UNREACHABLE, FreezeframeError


class ReportedError(FreezeframeError):
    """This host has reported in this hold already, or that is not known."""

    code = "reported"
    exit_code = EXIT_UNREACHABLE
    advice = "The order was delivered twice, and this host's journal did not have the first; nothing was done."


def check_first(barrier: Gate, order: HoldOrder, deadline: float) -> None:
    """Raise ReportedError unless this host has yet to report, or if Redis does not say so until the deadline.

    Call it before the muster: after it other hosts may hold their guests and wait for this one. By then no other delivery to
    this host may be under way with one of the order's guests (`guest_locks`).
    """
    try:
        is_second = barrier.has_arrived(deadline)
    except GateUnreachableError as error:
        why = redis_fault.words_of(error.fault) if error.fault is not None else str(error)
        advice = redis_fault.advice_for(error.fault) if error.fault is not None else ""
        raise ReportedError(
            f"Whether host {order.host_id} has reported in this hold already is not known: {why}", advice=advice
        ) from error
    if is_second:
        raise ReportedError(f"Host {order.host_id} has reported in this hold already, without these guests.")
