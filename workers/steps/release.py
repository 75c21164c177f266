"""Release: end the backups and leave every guest as it was found, but for the checkpoint that a sealed capture keeps."""

from __future__ import annotations

import structlog

from freezeframe.contract.fault import Fault
from freezeframe.contract.order import ReleaseOrder
from freezeframe.contract.result import ReleaseResult
from workers.host import Host
from workers.steps.undo import undo_capture, undo_guests

log = structlog.get_logger("release")

#: Seconds to wait for a step of the capture that is still at work. A hold that was given up ends within its deadline; a step
#: that takes longer is left to recovery, which looks every few seconds.
STEP_PATIENCE_S = 30.0


def release(host: Host, order: ReleaseOrder) -> ReleaseResult:
    """Undo what the capture changed on this host. What cannot be undone now is told, and left to recovery."""
    left = _undo(host, order, 0.0)
    if left is None:  # a run may be released while a step of it, late on a host in trouble, is still at work
        undo_guests(host, host.journal.of(order.capture_id), sealed=_sealed(order))
        left = _undo(host, order, STEP_PATIENCE_S)
    if left is None:
        left = [
            f"a step of capture {order.capture_id} is still at work there, and what it did is undone when it has ended"
        ]
    try:
        host.journal.prune()
    except OSError as error:
        log.warning("old journals stay", why=str(error))
    return ReleaseResult(capture_id=order.capture_id, host_id=host.host_id, warnings=tuple(left))


def _undo(host: Host, order: ReleaseOrder, patience_s: float) -> list[str] | None:
    """Return what could not be undone; None if a step is at work for longer than `patience_s`: what it did would stay."""
    journal = host.journal.of(order.capture_id)
    try:
        with journal.at_rest(patience_s, releasing=True):
            sealed = _sealed(order)
            if sealed is None:  # the journal stays open: recovery asks the repository when the run has ended
                return undo_guests(host, journal, sealed=None)
            return undo_capture(host, journal, sealed=sealed)
    except BlockingIOError:
        return None


def _sealed(order: ReleaseOrder) -> set[str] | None:
    return None if order.sealed_guests is None else set(order.sealed_guests)


def failed(order: ReleaseOrder, fault: Fault) -> ReleaseResult:
    return ReleaseResult(capture_id=order.capture_id, host_id=order.host_id, fault=fault)
